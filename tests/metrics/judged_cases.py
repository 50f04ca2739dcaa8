"""Six cases with their discussions, written for the tests, and the server that judges answers to them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))

from rubric_server import RubricServer  # noqa: E402, F401

CASES = {
    "pneumothorax": (
        "A tall man of 23 years has sudden pain in the left chest. What does the radiograph show?",
        "The radiograph shows a thin pleural line 3 cm from the left chest wall. Beyond that line no vessels can be "
        "followed, so the lung has collapsed there. A skin fold was excluded because folds carry no sharp white "
        "margin. The mediastinum keeps its place, hence no tension has built up. Tall young smokers rupture apical "
        "blebs without any injury. A small chest drain was inserted since the gap exceeded 2 cm.",
    ),
    "meningioma": (
        "A woman of 58 years has headaches for months. What is the mass on the MRI?",
        "Enhanced images show a homogeneous mass of 41 mm with a broad dural base. A cleft of cerebrospinal fluid "
        "separates it from cortex, therefore it grows outside brain parenchyma. The adjacent bone is thickened, "
        "because slow tumours provoke hyperostosis. A tapering dural tail supports the same origin. Metastases were "
        "considered unlikely since no primary neoplasm is known. Surgical removal is curative in most patients.",
    ),
    "appendicitis": (
        "A boy of 11 years has fever and pain in the right lower abdomen. What is the diagnosis?",
        "Ultrasound shows a blind-ending tube of 9 mm that cannot be compressed. An echogenic faecolith casts its "
        "shadow at the orifice. The surrounding fat is bright, so inflammation has reached beyond the serosa. "
        "Mesenteric adenitis was rejected because lymph nodes measured below 5 mm. White cells stood at 17 thousand. "
        "Laparoscopic operation was advised within one day, since perforation threatens.",
    ),
    "embolism": (
        "A woman of 34 years is breathless two weeks after a knee operation. What explains it?",
        "Contrast angiography shows filling defects in both lobar pulmonary arteries. The right ventricle is wider "
        "than its left neighbour, therefore strain is present. Immobility after orthopaedic surgery had provoked "
        "thrombosis. Troponin rose to 0.4 micrograms, hence risk is intermediate. Anticoagulation was started at "
        "once. Lysis was withheld because blood pressure remained stable.",
    ),
    "osteosarcoma": (
        "A girl of 14 years has a swollen thigh. What does the film of the femur suggest?",
        "The film shows a mixed lytic and sclerotic destruction of the distal metaphysis. Codman triangles and "
        "sunburst spicules reveal an aggressive periosteal reaction. Adolescents at peak growth are typical, so age "
        "fits. Alkaline phosphatase reached 612 units. Ewing disease was less likely since it prefers the shaft. "
        "Biopsy confirmed malignant osteoid, therefore chemotherapy preceded limb-sparing resection.",
    ),
    "glaucoma": (
        "A man of 66 years sees haloes and has a red eye. What happened?",
        "Tonometry gave 54 mmHg on the painful side. Gonioscopy shows a closed iridocorneal angle over its whole "
        "circumference. A hyperopic bulb has a shallow chamber, hence the iris could block aqueous outflow. Corneal "
        "oedema scatters lamps, so he noticed coloured rings. Conjunctivitis was dismissed because vision had "
        "fallen. Laser iridotomy restored drainage.",
    ),
}
NAMES = list(CASES)
QUESTIONS = [question for question, _ in CASES.values()]
DISCUSSIONS = [discussion for _, discussion in CASES.values()]
