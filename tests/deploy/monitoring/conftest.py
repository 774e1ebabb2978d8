"""Without what requirements-deploy.txt installs there is nothing to collect here, and `make chart` finds no test."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("promql_parser") and find_spec("grafana_foundation_sdk") else ["test_*.py"]
