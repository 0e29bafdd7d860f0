#!/bin/sh
# Install Tympan into a virtual environment: sh scripts/install.sh VENV runtime|dev
# Every package is checked against the hashes in requirements/. Says each step in one line, and what to do on failure.
set -eu

venv=$1
kind=$2
log=$venv/install.log
needed_kb=1500000

say() { echo "tympan: $*"; }

fail() {
    echo "tympan: $1" >&2
    echo "        $2" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14; do
        if [ -n "$candidate" ] && is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer was not found." "Install it (Debian: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3"
}

check_disk() {
    free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "$free_kb" -ge "$needed_kb" ] || fail "Only $((free_kb / 1024)) MB are free here; about $((needed_kb / 1024)) MB are needed." "Free some space and run the same command again."
}

make_venv() {
    if [ -x "$venv/bin/python" ] && is_new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python)
    check_disk
    say "creating $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null 2>&1 || {
        rm -rf "$venv"
        fail "$python cannot create a virtual environment." "Install its venv module (Debian: apt install python3-venv) and run the same command again."
    }
}

explain_and_stop() {
    tail -n 5 "$log" >&2
    if grep -qiE 'no space left' "$log"; then
        fail "The disk is full." "Free some space and run the same command again."
    elif grep -qiE 'hashes|do not match' "$log"; then
        fail "A package is not the one requirements/ names." "Someone may have tampered with it, or your package mirror rebuilt it. See $log."
    elif grep -qiE 'connection|resolve|timed out|proxy|unreachable|ssl' "$log"; then
        fail "The package index could not be reached." "Check the network, or set PIP_INDEX_URL to a mirror you can reach, and run the same command again."
    fi
    fail "The installation failed." "The whole story is in $log."
}

pip_install() { "$venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" >"$log" 2>&1 || explain_and_stop; }

make_venv
case $kind in
runtime)
    say "installing what Tympan needs (a few minutes the first time)"
    pip_install --require-hashes -r requirements/runtime.txt
    say "installing Tympan itself"
    pip_install --no-deps --no-build-isolation --editable .
    touch "$venv/.installed"
    ;;
dev)
    say "installing what checks and tests need"
    pip_install --require-hashes -r requirements/dev.txt
    pip_install --require-hashes --no-deps -r requirements/samples.txt
    touch "$venv/.installed-dev"
    ;;
*)
    fail "'$kind' is not a kind of installation." "Use: sh scripts/install.sh VENV runtime|dev"
    ;;
esac
