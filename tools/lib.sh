# Sourced by the scripts in tools/: finds a Python, makes the virtual environment, installs the project into it.
# The caller has `set -euo pipefail` and stands in the project's root.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; exit "${2:-1}"; }

# Runs a command for at most $1 seconds where the machine has a way to bound it.
bounded() {
    if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi
}

is_root_on_debian() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: a failure is the caller's to judge. `apt-get update` runs once a script.
apt_updated=no
apt_install() {
    if [ "$apt_updated" = no ]; then
        apt_updated=yes
        DEBIAN_FRONTEND=noninteractive bounded 300 apt-get -qq update >&2 || say "note: apt-get update failed"
    fi
    DEBIAN_FRONTEND=noninteractive bounded 900 apt-get -qq -y --no-install-recommends install "$@" >&2
}

python_is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Prints a Python >= 3.11: $PYTHON if it is set, else the first that runs of python3, python3.x on PATH, pyenv's.
# A name on PATH may be a pyenv shim that only says "not found", so each one is run, not only looked up.
find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        python_is_new_enough "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or newer"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python; do
        if command -v "$candidate" >/dev/null && python_is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found (have: $(python3 --version 2>&1 || true)). Install one (Debian: apt-get install python3 python3-venv), or name it: PYTHON=/path/to/python3 $0"
}

# make_venv PYTHON DIRECTORY
make_venv() {
    local python=$1 directory=$2 package
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if is_root_on_debian; then
            apt_install "$package" || apt_install python3-venv || true
        fi
        "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
            die "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install $package"
    fi
    say "making $directory with $("$python" --version)"
    if [ -f "$directory/pyvenv.cfg" ]; then # of a Python that is gone or too old
        "$python" -m venv --clear "$directory"
    else
        "$python" -m venv "$directory"
    fi
}

# What an installation depends on, as one line: the project's metadata, and the folder that it was installed from.
install_fingerprint() { { cat pyproject.toml; [ ! -f setup.py ] || cat setup.py; pwd; } | cksum; }

# prepare_venv EXTRA: makes $venv ready with the project (editable) and the named extra ("" for none), and sets $venv.
# A stamp file an extra makes the second run instant. LOGSTORE_VENV names another directory than .venv.
prepare_venv() {
    local extra=$1 fingerprint python
    venv=${LOGSTORE_VENV:-.venv}
    fingerprint=$(install_fingerprint)
    if ! python_is_new_enough "$venv/bin/python"; then
        python=$(find_python)
        make_venv "$python" "$venv"
    elif [ "$(cat "$venv/.installed${extra:+-$extra}" 2>/dev/null)" = "$fingerprint" ]; then
        return
    fi
    say "installing logstore${extra:+[$extra]} into $venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}" >&2 ||
        die "pip could not install logstore${extra:+[$extra]}; its message is above"
    printf '%s\n' "$fingerprint" >"$venv/.installed"
    [ -z "$extra" ] || cp "$venv/.installed" "$venv/.installed-$extra"
}
