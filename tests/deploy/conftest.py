"""Without what requirements-deploy.txt installs there is nothing to collect here; two targets of make install it."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("helm_python") and find_spec("promql_parser") else ["*"]
