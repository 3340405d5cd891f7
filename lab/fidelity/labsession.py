"""Connects oVirt's own Python SDK to a lab, given the file that the lab writes with --ready-file."""

import json
import subprocess
import time
import urllib.request

import ovirtsdk4 as sdk

DEADLINE_SECONDS = 180
PAUSE_SECONDS = 0.2


class LabSession:
    def __init__(self, ready_file):
        with open(ready_file, encoding="utf-8") as file:
            self.access = json.load(file)
        self.ca_file = self.access["caFile"]
        self.connection = sdk.Connection(
            url=self.access["apiUrl"],
            username=self.access["user"],
            password=self.access["password"],
            ca_file=self.ca_file,
        )
        self.system = self.connection.system_service()

    def __enter__(self):
        self.connection.test(raise_exception=True)
        return self

    def __exit__(self, *_):
        self.connection.close()

    def control(self, path, body):
        """The lab's own door: things that no API offers, such as writing into a running VM's disk."""
        request = urllib.request.Request(
            self.access["controlUrl"] + path, data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            return json.load(answer)

    def find_vm(self, name):
        (vm,) = self.system.vms_service().list(search="name=" + name)
        return vm, self.system.vms_service().vm_service(vm.id)

    def start(self, vm_service):
        vm_service.start()
        wait_for(lambda: vm_service.get().status.value, {"up"})

    def stop(self, vm_service):
        vm_service.stop()
        wait_for(lambda: vm_service.get().status.value, {"down"})

    def transfer(self, wanted, move_bytes):
        """Runs one image transfer from its creation to finished_success; `move_bytes` gets its URL and proxy URL."""
        transfers = self.system.image_transfers_service()
        transfer = transfers.add(wanted)
        service = transfers.image_transfer_service(transfer.id)
        wait_for(lambda: service.get().phase.value, {"transferring"}, {"finished_failure", "paused_system"})
        transfer = service.get()
        move_bytes(transfer.transfer_url, transfer.proxy_url)
        service.finalize()
        wait_for(lambda: service.get().phase.value, {"finished_success"}, {"finished_failure", "paused_system"})
        return transfer


def wait_for(read, wanted, failed=frozenset()):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        value = read()
        if value in wanted:
            return value
        if value in failed:
            raise RuntimeError(f"reached {value} while waiting for {sorted(wanted)}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value} while waiting for {sorted(wanted)}")
        time.sleep(PAUSE_SECONDS)


def same_content(first, second):
    """True when qemu-img finds both images identical, chains included."""
    return subprocess.run(["qemu-img", "compare", first, second], stdout=subprocess.DEVNULL, check=False).returncode == 0
