"""
Upload to a new disk and what a restore needs around it, with oVirt's own SDK and imageio's own client.

usage: restore.py READY_FILE DIRECTORY

Prints one line of JSON with what was found.
"""

import json
import os
import subprocess
import sys

import ovirtsdk4 as sdk
from ovirt_imageio import client
from ovirtsdk4 import types

from labsession import LabSession, same_content, wait_for

GIB = 1024 * 1024 * 1024
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def main(ready_file, directory):
    source = os.path.join(directory, "source.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", source, str(GIB)], check=True)
    for command in ("write -P 7 0 1M", "write -P 9 900M 3M"):
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, source], check=True, stdout=subprocess.DEVNULL)
    with LabSession(ready_file) as session:
        disk_id = upload(session, source)
        vm_service = make_vm(session, disk_id)
        session.start(vm_service)
        running = vm_service.get()
        refusals = {
            "transferOfPluggedDisk": refusal(lambda: download(session, disk_id, os.path.join(directory, "never"))),
            "startTwice": refusal(vm_service.start),
        }
        session.stop(vm_service)
        refusals["stopTwice"] = refusal(vm_service.stop)
        refusals["unknownDisk"] = refusal(session.system.disks_service().disk_service(UNKNOWN_ID).get)
        back = os.path.join(directory, "back.raw")
        download(session, disk_id, back)
        copy = copy_by_ovf(session, vm_service)
        event = session.system.events_service().add(
            types.Event(origin="fidelity", custom_id=1, severity=types.LogSeverity.NORMAL, description="restored <&> ok", vm=types.Vm(id=running.id))
        )
        copy_service = session.system.vms_service().vm_service(copy.id)
        copied_nics = [nic.mac.address for nic in copy_service.nics_service().list()]
        original_nics = [nic.mac.address for nic in vm_service.nics_service().list()]
        copy_service.remove()
        vm_service.remove(detach_only=True)
        disk = session.system.disks_service().disk_service(disk_id).get()
        print(
            json.dumps(
                {
                    "identical": same_content(source, back),
                    "status": running.status.value,
                    "host": session.connection.follow_link(running.host).name,
                    "memory": running.memory,
                    "copyHasOwnId": copy.id != running.id,
                    "copyHasOwnMac": len(copied_nics) == 1 and copied_nics != original_nics,
                    "eventCode": event.code,
                    "eventText": session.system.events_service().list(search="origin=fidelity")[0].description,
                    "diskLeft": disk.status.value,
                    "provisionedSize": disk.provisioned_size,
                    "refusals": refusals,
                }
            )
        )


def upload(session, source):
    disks = session.system.disks_service()
    disk = disks.add(
        types.Disk(
            name="uploaded",
            format=types.DiskFormat.COW,
            sparse=True,
            backup=types.DiskBackup.INCREMENTAL,
            provisioned_size=client.info(source)["virtual-size"],
            storage_domains=[types.StorageDomain(name="data-1")],
        )
    )
    service = disks.disk_service(disk.id)
    wait_for(lambda: service.get().status.value, {"ok"})
    session.transfer(
        types.ImageTransfer(
            disk=types.Disk(id=disk.id), direction=types.ImageTransferDirection.UPLOAD, format=types.DiskFormat.RAW
        ),
        lambda url, proxy_url: client.upload(source, url, session.ca_file, proxy_url=proxy_url),
    )
    wait_for(lambda: service.get().status.value, {"ok"})
    return disk.id


def download(session, disk_id, file):
    session.transfer(
        types.ImageTransfer(
            disk=types.Disk(id=disk_id), direction=types.ImageTransferDirection.DOWNLOAD, format=types.DiskFormat.RAW
        ),
        lambda url, proxy_url: client.download(url, file, session.ca_file, fmt="raw", proxy_url=proxy_url),
    )


def make_vm(session, disk_id):
    vms = session.system.vms_service()
    vm = vms.add(
        types.Vm(
            name="restored",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name="Blank"),
            memory=GIB,
            os=types.OperatingSystem(type="other_linux", boot=types.Boot(devices=[types.BootDevice.HD])),
            high_availability=types.HighAvailability(enabled=True, priority=50),
        )
    )
    service = vms.vm_service(vm.id)
    (profile,) = [p for p in session.system.vnic_profiles_service().list() if p.name == "ovirtmgmt"]
    service.nics_service().add(types.Nic(name="nic1", interface=types.NicInterface.VIRTIO, vnic_profile=profile))
    service.tags_service().add(types.Tag(name="gold"))
    service.disk_attachments_service().add(
        types.DiskAttachment(
            disk=types.Disk(id=disk_id), interface=types.DiskInterface.VIRTIO_SCSI, bootable=True, active=True
        )
    )
    return service


def copy_by_ovf(session, vm_service):
    """A second VM from the first one's OVF: new ids, no disks (they are in use)."""
    ovf = vm_service.get(all_content=True).initialization.configuration.data
    return session.system.vms_service().add(
        types.Vm(
            name="copied",
            cluster=types.Cluster(name="Default"),
            initialization=types.Initialization(
                regenerate_ids=True, configuration=types.Configuration(type=types.ConfigurationType.OVF, data=ovf)
            ),
        )
    )


def refusal(call):
    """Code and whether the SDK could read the engine's fault."""
    try:
        call()
    except sdk.Error as error:
        return {"code": error.code, "hasFault": error.fault is not None and bool(error.fault.detail)}
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
