#!/bin/sh
# Print a Python of at least a version: sh scripts/find_python.sh 3.12 [NAME-OR-PATH]; one that is named is the only one tried.
# Each candidate is run, because what lies on the path may be a stand-in that starts nothing, as pyenv's are.
set -u

least=$1
shift

is_one() { "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$least'.split('.'))))" >/dev/null 2>&1; }

[ $# -gt 0 ] || set -- python3 python3.12 python3.13 python3.14 python3.15 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-3.*/bin/python
for candidate in "$@"; do
    if is_one "$candidate"; then
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
echo "tympan: Python $least or newer was not found." >&2
echo "        Install one, as with 'pyenv install $least' or '.venv/bin/uv python install $least' (Debian 13 has it as python3), or name it: make test-clients CLIENTS_PYTHON=/path/to/python3" >&2
exit 1
