#!/bin/sh
# A Python of aarch64 with numpy and ONNX Runtime in the folder $1, run by qemu-user; prints the program for
# HWBENCH_AARCH64_PYTHON. Asks Debian's archive (bookworm) and PyPI for 45 MB; apt's own state is not touched.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
pip="${PYTHON:-python3} -m pip"
command -v qemu-aarch64-static >/dev/null || { echo "apt install qemu-user-static first" >&2; exit 1; }
mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial" "$folder/debs"
: >"$folder/status"
arm() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root \
        -o Dir::State="$folder/state" -o Dir::State::status="$folder/status" -o Dir::Cache="$folder/cache" \
        -o Acquire::Languages=none -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/debian.sources \
        -o Dir::Etc::sourceparts=- "$@"
}
arm update
(cd "$folder/debs" && arm download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 zlib1g \
    libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libstdc++6 libgcc-s1)
for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done
$pip install -q --target "$folder/site" --no-deps --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
    'numpy<2.3' 'onnxruntime<1.23'
cat >"$folder/python" <<END
#!/bin/sh
export PYTHONPATH="$folder/site"
exec qemu-aarch64-static -L "$folder/root" "$folder/root/usr/bin/python3.11" "\$@"
END
chmod +x "$folder/python"
echo "$folder/python"
