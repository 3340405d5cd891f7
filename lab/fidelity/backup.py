"""
Full and incremental backup of a running VM with oVirt's own SDK and imageio's own client.

usage: backup.py READY_FILE VM_NAME DIRECTORY

Prints one line of JSON: per disk the mode of the second backup and whether the chain of both downloads equals the disk.
"""

import json
import os
import sys

from ovirt_imageio import client
from ovirtsdk4 import types

from labsession import LabSession, same_content, wait_for

MIB = 1024 * 1024


def main(ready_file, vm_name, directory):
    with LabSession(ready_file) as session:
        vm, vm_service = session.find_vm(vm_name)
        disks = [
            session.connection.follow_link(attachment.disk)
            for attachment in vm_service.disk_attachments_service().list()
        ]
        session.start(vm_service)
        for number, disk in enumerate(disks):
            write(session, vm_name, disk, offset=(3 + number) * MIB, length=2 * MIB, seed=number + 1)
        full = run_backup(session, vm_service, disks, None, lambda disk: os.path.join(directory, disk.id + ".full"), None)
        for number, disk in enumerate(disks):
            write(session, vm_name, disk, offset=(4 + number) * MIB, length=MIB, seed=number + 40)
        second = run_backup(
            session,
            vm_service,
            disks,
            full["checkpoint"],
            lambda disk: os.path.join(directory, disk.id + ".second"),
            lambda disk: os.path.join(directory, disk.id + ".full"),
        )
        session.stop(vm_service)
        result = []
        for disk in disks:
            truth = os.path.join(directory, disk.id + ".truth")
            session.control(f"/disks/{disk.id}/dump", {"file": truth})
            result.append(
                {
                    "name": disk.name,
                    "mode": second["modes"][disk.id],
                    "identical": same_content(os.path.join(directory, disk.id + ".second"), truth),
                    "fullDiffers": not same_content(os.path.join(directory, disk.id + ".full"), truth),
                }
            )
        checkpoints = [checkpoint.id for checkpoint in vm_service.checkpoints_service().list()]
        print(
            json.dumps(
                {
                    "disks": result,
                    "chain": checkpoints == [full["checkpoint"], second["checkpoint"]],
                    "snapshotsLeft": len(vm_service.snapshots_service().list()) - 1,
                    "statuses": [session.connection.follow_link(disk).status.value for disk in disks],
                }
            )
        )


def write(session, vm_name, disk, offset, length, seed):
    session.control(
        f"/vms/{vm_name}/write",
        {"disk": disk.id, "offsetBytes": offset, "lengthBytes": length, "pattern": "random", "seed": seed},
    )


def run_backup(session, vm_service, disks, from_checkpoint, file_of, backing_of):
    backups = vm_service.backups_service()
    backup = backups.add(
        types.Backup(
            disks=[types.Disk(id=disk.id) for disk in disks],
            from_checkpoint_id=from_checkpoint,
            description="fidelity",
        )
    )
    service = backups.backup_service(backup.id)
    wait_for(lambda: service.get().phase.value, {"ready"}, {"failed"})
    checkpoint = service.get().to_checkpoint_id
    modes = {disk.id: disk.backup_mode.value for disk in service.disks_service().list()}
    for disk in disks:
        incremental = modes[disk.id] == "incremental"

        def fetch(url, proxy_url):
            extra = {"backing_file": backing_of(disk), "backing_format": "qcow2"} if incremental else {}
            client.download(
                url, file_of(disk), session.ca_file, fmt="qcow2", incremental=incremental, proxy_url=proxy_url, **extra
            )

        session.transfer(
            types.ImageTransfer(
                disk=types.Disk(id=disk.id),
                backup=types.Backup(id=backup.id),
                direction=types.ImageTransferDirection.DOWNLOAD,
                format=types.DiskFormat.RAW,
                timeout_policy=types.ImageTransferTimeoutPolicy.CANCEL,
            ),
            fetch,
        )
    service.finalize()
    wait_for(lambda: service.get().phase.value, {"succeeded"}, {"failed"})
    return {"checkpoint": checkpoint, "modes": modes}


if __name__ == "__main__":
    main(*sys.argv[1:])
