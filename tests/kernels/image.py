"""What a guest boots: a Debian kernel as an ELF file, and an initial file system that
mounts the host's root and runs agent.py in it. Made once, in build/kernels."""

import pathlib
import re
import shutil
import struct
import subprocess

# In the order in which they are loaded; those that a kernel has built in are left out.
MODULES = """virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
    fuse virtiofs virtio_console failover net_failover virtio_net dax device_dax
    dax_hmem""".split()

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in {modules}; do insmod /modules/$module.ko; done
word() {{ sed -n "s/.*$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline; }}
hostname "$(word sheaf.host)"
ip link set lo up
ip link set eth0 up && ip addr add "$(word sheaf.address)/24" dev eth0
mount -t virtiofs -o ro host /host || poweroff -f
for folder in proc sys dev; do mount -o bind /$folder /host/$folder; done
mkdir -p /host/dev/shm; mount -t tmpfs shm /host/dev/shm
# A folder of the guest's own may hide the checkout.
checkout="$(word sheaf.checkout)"
mkdir /checkout && mount -o bind "/host$checkout" /checkout
for folder in tmp run; do mount -t tmpfs $folder /host/$folder; done
mkdir -p "/host$checkout" && mount -o bind /checkout "/host$checkout"
exec chroot /host /usr/bin/python3 "$(word sheaf.agent)"
"""


def newest_kernel_package():
    """The one that the distribution's package linux-image-cloud-amd64 stands for."""
    text = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"],
                          capture_output=True, text=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", text)
    if not found:
        raise RuntimeError("apt knows no linux-image-cloud-amd64: run apt-get update")
    return found[1]


def fetch_kernel(folder):
    """Unpack the kernel's package into `folder`/package, once."""
    package = folder / "package"
    if package.exists():
        return package
    subprocess.run(["apt-get", "download", "-q", newest_kernel_package()], cwd=folder,
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    draft = folder / "package.new"
    shutil.rmtree(draft, ignore_errors=True)
    for file in folder.glob("linux-image-*.deb"):
        subprocess.run(["dpkg-deb", "-x", file, draft], check=True)
        file.unlink()
    draft.rename(package)
    return package


def unpack_kernel(image, elf):
    """The ELF file in a bzImage with an LZ4 payload: to decompress it here is faster than
    in a guest, and it boots without a firmware's help."""
    data = image.read_bytes()
    setup_bytes = (data[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", data, 0x248)
    payload = data[setup_bytes + offset:setup_bytes + offset + length]
    if payload[:4] != b"\x02\x21\x4c\x18":
        raise RuntimeError(f"{image} is not compressed with LZ4")
    unpacked = subprocess.run(["lz4", "-dc"], input=payload[:-4], capture_output=True,
                              check=True).stdout
    elf.write_bytes(unpacked)


def make_initial_files(package, folder, archive):
    """A cpio archive of busybox, the modules and INIT."""
    root = folder / "initial"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "modules", "proc", "sys", "dev", "host"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    files = {file.stem: file for file in package.rglob("*.ko")}
    present = [name for name in MODULES if name in files]
    for name in present:
        shutil.copy(files[name], root / "modules" / (name + ".ko"))
    init = root / "init"
    init.write_text(INIT.format(modules=" ".join(present)))
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root,
                            input=names.encode(), capture_output=True, check=True).stdout
    archive.write_bytes(packed)


def prepare(folder: pathlib.Path):
    """Paths of kernel and initial files."""
    folder.mkdir(parents=True, exist_ok=True)
    package = fetch_kernel(folder)
    kernel, archive = folder / "vmlinux", folder / "initial.cpio"
    if not kernel.exists():
        image, = (package / "boot").glob("vmlinuz-*")
        unpack_kernel(image, kernel)
    make_initial_files(package, folder, archive)
    return kernel, archive
