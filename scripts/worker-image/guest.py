"""A worker image running under qemu, with its CPU emulated: what a test needs to see of it."""
import base64
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tools import BuildError, run

OVMF = Path("/usr/share/OVMF")
# Type of machine, firmware; the names are those of oVirt's BIOS types.
MACHINES = {
    "i440fx_sea_bios": ("pc", "bios"),
    "q35_sea_bios": ("q35", "bios"),
    "q35_ovmf": ("q35", "uefi"),
}
MAC_ADDRESSES = ("52:54:00:12:34:56", "52:54:00:12:34:57")


def config_drive(folder, user_data):
    """The CD that the engine makes, as an ISO file."""
    latest = folder / "drive/openstack/latest"
    latest.mkdir(parents=True)
    (latest / "user_data").write_text(user_data)
    (latest / "meta_data.json").write_text('{"uuid": "7f6f1c53-6c7b-4c3e-9a38-0d4a2ad1c0de", "launch_index": "0"}\n')
    iso = folder / "drive.iso"
    run("genisoimage", "-quiet", "-o", iso, "-V", "config-2", "-J", "-R", folder / "drive")
    return iso


def user_data(seed):
    """As the engine writes it: its own keys, then ours as text."""
    content = base64.b64encode(json.dumps(seed).encode()).decode()
    return (
        "#cloud-config\ndisable_root: false\nssh_pwauth: true\nuser: root\nchpasswd:\n  expire: false\n"
        "output:\n  all: '>> /var/log/cloud-init-output.log'\nruncmd:\n- 'true'\n"
        f"write_files:\n- path: /etc/tidemark/worker.json\n  permissions: '0600'\n  encoding: b64\n  content: {content}\n"
    )


class Guest:
    """Starts on entering; the process is gone on leaving."""

    def __init__(self, image, machine, iso, folder, memory_mib=768, clock_offset=0, counted=False):
        """`counted`: one CPU whose clock advances by a nanosecond with each instruction, however fast it is emulated; it waits in real time."""
        self.folder = folder
        self._clock_offset = clock_offset
        self.console_file = folder / "console.txt"
        self._counted = counted
        self._arguments = self._command(image, machine, iso, memory_mib)
        self._process = None
        self.started = 0.0

    def _clock(self):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + self._clock_offset))

    def _command(self, image, machine, iso, memory_mib):
        chipset, firmware = MACHINES[machine]
        overlay = self.folder / "overlay.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
        flash = []
        if firmware == "uefi":
            variables = self.folder / "variables.fd"
            shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", variables)
            flash = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF / 'OVMF_CODE_4M.fd'}", "-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
        return [
            *["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", chipset, "-cpu", "max", *flash],
            *["-accel", f"tcg,thread={'single' if self._counted else 'multi'},tb-size=256", "-smp", "1" if self._counted else "2", "-m", str(memory_mib)],
            *(["-icount", "shift=0,sleep=on,align=off"] if self._counted else []),
            *["-device", "virtio-scsi-pci,id=scsi0", "-drive", f"if=none,id=root,format=qcow2,file={overlay}", "-device", "scsi-hd,bus=scsi0.0,drive=root,bootindex=1"],
            # On SATA with q35, on IDE with i440fx.
            *["-drive", f"if=none,id=cd,format=raw,readonly=on,media=cdrom,file={iso}", "-device", f"ide-cd,bus=ide.{2 if chipset == 'q35' else 1},drive=cd"],
            *["-netdev", "user,id=net0", "-device", f"virtio-net-pci,netdev=net0,mac={MAC_ADDRESSES[0]}"],
            # The second one tells IPv6 addresses and a name server by router advertisements.
            *["-netdev", "user,id=net1,net=10.9.9.0/24,host=10.9.9.2,dns=10.9.9.3,ipv6-prefix=fd09::,ipv6-host=fd09::2,ipv6-dns=fd09::3"],
            *["-device", f"virtio-net-pci,netdev=net1,mac={MAC_ADDRESSES[1]}"],
            *["-rtc", f"base={self._clock()}"],
            *["-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={self.folder / 'agent.sock'},server=on,wait=off"],
            *["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"],
            *["-serial", f"file:{self.console_file}", "-vga", "std", "-qmp", f"unix:{self.folder / 'qmp.sock'},server=on,wait=off"],
        ]

    def __enter__(self):
        self.console_file.write_text("")
        self.started = time.monotonic()
        with open(self.folder / "qemu.txt", "wb") as log:
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def console(self):
        return self.console_file.read_text(errors="replace")

    def seconds(self):
        return round(time.monotonic() - self.started, 1)

    def wait_for(self, text, timeout):
        """Seconds since the start when the console has the text."""
        return self.wait_until(lambda: text in self.console, f'"{text}" on the console', timeout)

    def wait_until(self, condition, what, timeout):
        until = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > until or (self._process.poll() is not None and not condition()):
                words = (self.folder / "qemu.txt").read_text(errors="replace")
                raise BuildError(f"no {what} within {timeout} s; console and qemu said:\n{self.console[-3000:]}\n{words[-1000:]}")
            time.sleep(0.1)
        return self.seconds()

    def wait_for_end(self, timeout):
        """Seconds since the start when the VM went off by itself."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BuildError(f"the VM did not go off within {timeout} s; its console:\n{self.console[-3000:]}") from None
        return self.seconds()

    def resident_mib(self):
        """Peak of qemu's own memory: the guest's, plus the emulation's."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) // 1024

    def press_power_button(self):
        with self._connect("qmp.sock", 60) as link:
            stream = link.makefile("rwb")
            stream.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                stream.write(json.dumps({"execute": command}).encode() + b"\n")
                stream.flush()
                stream.readline()

    def agent(self, command, answers=True, timeout=120, **arguments):
        """One call of the guest agent: its `return`, or its `error` as a whole."""
        with self._connect("agent.sock", timeout) as link:
            stream = link.makefile("rwb")
            # 0xFF ends whatever half a message lies in the channel.
            stream.write(b"\xff" + json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": os.getpid()}}).encode() + b"\n")
            stream.flush()
            while stream.read(1) != b"\xff":
                pass
            stream.readline()
            stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            stream.flush()
            if not answers:
                return None
            answer = json.loads(stream.readline())
            return answer.get("return", answer)

    def _connect(self, name, timeout):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(timeout)
        link.connect(str(self.folder / name))
        return link
