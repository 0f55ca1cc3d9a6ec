#!/bin/bash
# Makes the Python environment: setup.sh FOLDER MEMBER…, in the project's folder. One run at a time; what a run that
# was cut short, or a Python without venv, left behind is made again.
set -euo pipefail
venv=$1
shift
python=$venv/bin/python

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; found $(python3 --version)" >&2
    exit 1
}
exec 9>"$venv.lock"
flock --nonblock 9 || {
    echo "== waiting for another run that makes the Python environment"
    flock 9
}
# Another run may have made it while this one waited
stale=
for source in requirements.lock "${@/%//pyproject.toml}"; do
    [[ $venv/.ready -nt $source ]] || stale=yes
done
[[ $stale ]] || exit 0

echo "== making the Python environment in $venv, a minute at most"
"$python" -m pip --version >/dev/null 2>&1 || python3 -m venv --clear "$venv" || {
    rm -rf "$venv"
    echo "python3 -m venv failed: on Debian and Ubuntu, apt install python3-venv" >&2
    exit 1
}
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation "${@/#/-e./}"
touch "$venv/.ready"
