"""The parts of the Hub double; `hub_server.py` beside this folder is where to begin."""
