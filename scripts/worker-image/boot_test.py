"""Boots a finished image the way oVirt would and looks whether it does what it must: `npm run worker-image -- --boot-test`."""
import json
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True  # the folder is part of the repository

from guest import MAC_ADDRESSES, MACHINES, Guest, config_drive, user_data
from tools import BuildError, say

# The emulation on a loaded machine is some ten times slower than a host of oVirt.
PATIENCE = 480
# Counting takes an emulation without second thread.
COUNTED_PATIENCE = 1200
COST = re.compile(r"ready to dial ([\d.]+) s after the kernel, of which CPUs computed ([\d.]+) s")
# From power on to ready for work, of which firmware and boot loader have a few.
MOST_SECONDS = 25
TOKEN = "tmk1.boot-test-secret-0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


# By so much the guest's clock is wrong at its start.
CLOCK_OFFSET = -3600


def seed_for(port, time_servers=()):
    """For a plug-in on this machine, which user-mode networking shows to the guest as 10.0.2.2."""
    none, automatic = {"method": "none"}, {"method": "automatic"}
    fixed = {"method": "static", "address": "10.9.9.7/24", "gateway": "10.9.9.2"}
    return {
        "version": 1,
        "workerId": "0d9f5f0e-52f5-4c3d-9b0e-1f0c5a3a7b11",
        "hostName": "tidemark-worker-boot-01",
        "platformId": "boot-test",
        "clusterId": "boot-test",
        "taskSlots": 4,
        "plugin": {"endpoint": f"10.0.2.2:{port}", "enrolmentEndpoint": f"10.0.2.2:{port}", "enrolmentToken": TOKEN},
        "interfaces": [
            {"macAddress": MAC_ADDRESSES[0], "mtu": 1400, "ipv4": automatic, "ipv6": none, "routes": []},
            {"macAddress": MAC_ADDRESSES[1], "ipv4": fixed, "ipv6": automatic, "routes": [{"destination": "192.0.2.0/24", "via": "10.9.9.2"}]},
        ],
        "dnsServers": ["10.0.2.3"],
        "dnsSearch": [],
        "ntpServers": list(time_servers),
    }


class TimeServer:
    """Answers NTP (RFC 5905) with this machine's time on 127.0.0.1; `usable` is false where the port may not be taken."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("127.0.0.1", 123))
            self.usable = True
        except OSError:
            self.usable = False
            return
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                packet, peer = self._socket.recvfrom(1024)
            except OSError:
                return
            if len(packet) < 48:
                continue
            now = time.time() + 2208988800
            stamp = struct.pack("!II", int(now), int((now % 1) * 2**32))
            # Version 4, server, stratum 1; the client's own time comes back as the origin.
            head = struct.pack("!BBbb", 0x24, 1, 6, -20) + struct.pack("!II", 0, 66) + b"TEST"
            self._socket.sendto(head + stamp + packet[40:48] + stamp + stamp, peer)

    def close(self):
        self._socket.close()


class Listener:
    """Notes when somebody dials."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.dialled = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            self.dialled.set()
            link.close()

    def close(self):
        self._socket.close()


def clock_difference(guest):
    """Seconds that the guest's clock is ahead of this machine's, by the quickest of some answers: what passes between two looks is the error."""
    measured = []
    for _ in range(5):
        before = time.time()
        told = guest.agent("guest-get-time") / 1e9
        after = time.time()
        measured.append((after - before, told - (before + after) / 2))
    return min(measured)[1]


def boot(image, machine):
    """One good start, from power on to power off. Returns what was measured and seen."""
    listener, time_server = Listener(), TimeServer()
    servers = ["10.0.2.2"] if time_server.usable else []
    with tempfile.TemporaryDirectory(prefix="worker-boot-") as folder:
        iso = config_drive(Path(folder), user_data(seed_for(listener.port, servers)))
        with Guest(image, machine, iso, Path(folder), clock_offset=CLOCK_OFFSET) as guest:
            appliance = guest.wait_for("appliance: started", PATIENCE)
            dialling = guest.wait_until(listener.dialled.is_set, "call to the plug-in", PATIENCE)
            agent = guest.agent("guest-network-get-interfaces")
            clock = clock_difference(guest)
            refused = guest.agent("guest-exec", path="/bin/sh")
            file_systems = guest.agent("guest-get-fsinfo")
            memory = guest.resident_mib()
            asked = guest.seconds()
            # Both ways that the engine has.
            if machine == "q35_sea_bios":
                guest.agent("guest-shutdown", answers=False)
            else:
                guest.press_power_button()
            off = guest.wait_for_end(PATIENCE)
            console = guest.console
    listener.close()
    time_server.close()
    return {
        "machine": machine,
        "applianceSeconds": appliance,
        "diallingSeconds": dialling,
        "powerOffSeconds": round(off - asked, 1),
        "memoryMib": memory,
        "timeServer": time_server.usable,
        "clockOffsetSeconds": round(clock, 1),
        "interfaces": agent,
        "execRefused": "error" in refused,
        "fileSystems": file_systems,
        "console": console,
        "tokenOnConsole": TOKEN in console or TOKEN.split(".")[1] in console,
    }


def boot_counted(image, machine="q35_sea_bios"):
    """How much there is to compute and to wait for until the worker dials, told by the guest. Depends on no load and on no speed of this machine:
    the guest's clock counts instructions. Firmware and boot loader, before the kernel, are not in it."""
    listener, time_server = Listener(), TimeServer()
    servers = ["10.0.2.2"] if time_server.usable else []
    with tempfile.TemporaryDirectory(prefix="worker-boot-") as folder:
        iso = config_drive(Path(folder), user_data(seed_for(listener.port, servers)))
        with Guest(image, machine, iso, Path(folder), counted=True) as guest:
            guest.wait_until(lambda: COST.search(guest.console), "word that it is ready to dial", COUNTED_PATIENCE)
            seconds, computed = (float(text) for text in COST.search(guest.console).groups())
    listener.close()
    time_server.close()
    return {"seconds": seconds, "computedSeconds": computed}


def boot_without_seed(image, machine):
    """A start with settings that cannot be used: it must say so and go off by itself."""
    seed = {**seed_for(1), "taskSlots": 99}
    with tempfile.TemporaryDirectory(prefix="worker-boot-") as folder:
        iso = config_drive(Path(folder), user_data(seed))
        with Guest(image, machine, iso, Path(folder)) as guest:
            off = guest.wait_for_end(PATIENCE)
            console = guest.console
    return {"machine": machine, "powerOffSeconds": off, "console": console, "tokenOnConsole": TOKEN.split(".")[1] in console}


def boot_all(manifest):
    """Prints a line per machine; false when one did not do as it must."""
    image = manifest.with_suffix(".qcow2")
    good = True
    for machine in MACHINES:
        try:
            seen = boot(image, machine)
        except BuildError as error:
            say(f"{machine}: {error}")
            good = False
            continue
        print(
            f"{machine:16} appliance started after {seen['applianceSeconds']:5} s, worker dialling after {seen['diallingSeconds']:5} s, "
            f"off {seen['powerOffSeconds']} s after it was asked; qemu took {seen['memoryMib']} MiB; emulated CPU"
        )
    try:
        counted = boot_counted(image)
    except BuildError as error:
        say(f"counted: {error}")
        return False
    print(
        f"counted          {counted['computedSeconds']} billion instructions from the kernel to dialling; with what it waits for {counted['seconds']} s on one CPU "
        f"that carries out a billion a second (an old server; {MOST_SECONDS} s are allowed)"
    )
    return good and counted["seconds"] <= MOST_SECONDS


def main():
    """`boot_test.py MANIFEST SCENARIO MACHINE`: one scenario, what was seen as JSON. For the tests."""
    manifest, scenario, machine = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    try:
        run_scenario = {"good": boot, "bad-seed": boot_without_seed, "counted": boot_counted}[scenario]
        print(json.dumps(run_scenario(manifest.with_suffix(".qcow2"), machine)))
    except BuildError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
