#!/usr/bin/env python3
"""What `make audit` runs: bandit over the code, pip-audit over the installed packages.

Every finding of bandit must stand in `bandit_baseline.yaml` with its reason; what stands there must still be found.
Where pip-audit's service cannot be reached, or knows none of the packages, that is said, and is no failure; a known
vulnerability is one.
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("semihv_hf", "recipes", "metrics", "dataset_scripts")
BASELINE = Path(__file__).with_name("bandit_baseline.yaml")
SECONDS = 300


def check_code() -> list[str]:
    """Compares what bandit finds with the baseline.

    Returns:
        `list[str]`: what is wrong, a line each.
    """
    command = [sys.executable, "-m", "bandit", "--quiet", "--recursive", *FOLDERS, "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return [f"bandit did not run: {done.stderr.strip()[-500:]}"]
    baseline = yaml.safe_load(BASELINE.read_text(encoding="utf-8"))
    rules = {(entry["test"], file) for entry in baseline["findings"] for file in entry["files"]}
    rules |= {(entry["test"], None) for entry in baseline["rules"]}
    if unjustified := [one["test"] for one in (*baseline["rules"], *baseline["findings"]) if not one.get("reason")]:
        return [f"{BASELINE.name}: {unjustified[0]} has no reason"]
    wrong = [f"{one['filename']}: bandit could not read it ({one['reason']})" for one in report["errors"]]
    used = set()
    for one in report["results"]:
        keys = {(one["test_id"], one["filename"]), (one["test_id"], None)} & rules
        used |= keys
        if not keys:
            wrong.append(f"{one['filename']}:{one['line_number']}: {one['test_id']} {one['issue_text']}")
    wrong += [f"{BASELINE.name}: {test} in {file} is not found any more" for test, file in rules - used if file]
    files = len(report["metrics"]) - 1
    print(f"bandit: {len(report['results'])} findings in {files} files, {len(wrong)} not justified")
    return wrong


def check_packages() -> list[str]:
    """Asks pip-audit about the packages of this environment.

    Returns:
        `list[str]`: the known vulnerabilities, a line each.
    """
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--timeout", "10"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"pip-audit: NOT CHECKED: its service did not answer within {SECONDS} seconds")
        return []
    except ValueError:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        if "ServiceError" in done.stderr or "Connection" in done.stderr or "resolve" in done.stderr:
            print(f"pip-audit: NOT CHECKED: its service cannot be reached ({said[-1][:200]})")
            return []
        return [f"pip-audit did not run: {said[-1][:500]}"]
    skipped = [package for package in packages if "skip_reason" in package]
    wrong = [
        f"{package['name']} {package['version']}: {one['id']}, mended in {one['fix_versions'] or 'no version'}"
        for package in packages
        for one in package.get("vulns", ())
    ]
    checked = len(packages) - len(skipped)
    if not checked:
        print(f"pip-audit: NOT CHECKED: its service knows none of the {len(packages)} packages here")
    else:
        print(f"pip-audit: {checked} packages checked, {len(skipped)} unknown to it, {len(wrong)} vulnerabilities")
    return wrong


def main() -> int:
    wrong = check_code() + check_packages()
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
