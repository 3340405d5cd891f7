/**
 * Power of machines: start, stop, shutdown, reboot, reset, suspend, migrate, freeze, thaw, and noticing that a process died.
 *
 * All hosts of the lab lie on one machine, so a migration only changes which host the engine shows and uses for new transfers.
 * States: vm-states.ts. Source: reference "oVirt engine REST API" sections 4.6, 5.2, 9 and 14.7.
 */
import { flagOf, objectOf, textOf, type ApiObject } from '../http/api-object';
import { executionFailed } from '../http/fault';
import { backupBlocksPower } from '../backups/backup-queries';
import type { AttachmentService } from '../disks/attachment-service';
import { optional, type Requester } from '../disks/disk-service';
import { disksOfVm, requireUsable } from '../disks/images';
import { takeLocks, underLocks } from '../locks/take-locks';
import type { Core } from '../model/core';
import type { EventRefs, Host, Vm, VmStatus } from '../model/entities';
import { refuse } from '../states/refusals';
import { follow } from '../states/transitions';
import { applyNextRun } from '../vms/vm-service';
import type { ConfigDrive } from './config-drive';
import { chooseHost, isFit } from './host-choice';
import { configDriveOfStart } from './initialization';
import { isRunning, VM_TRANSITIONS } from './vm-states';
import { guestOfRun, machineOf } from './worker-vms';

/** Engine milliseconds of the steps between down and up, and of a reboot. */
const LAUNCH_MS = 1_000;
const BOOT_MS = 2_000;
const SHUTDOWN_MS = 2_000;
const HOST_REFRESH_MS = 3_000;
/** Without word from a guest agent the engine takes a machine for up after this time. */
const NO_AGENT_UP_MS = 60_000;
/** Real milliseconds: a real guest does not shut down faster when the engine's time runs faster. */
const GUEST_SHUTDOWN_MS = 60_000;

export class PowerService {
  private readonly exitListeners: ((vmId: string) => Promise<void>)[] = [];

  constructor(
    private readonly core: Core,
    private readonly attachments: AttachmentService,
  ) {}

  /** Called with machines whose process ended, wanted or not, before their status says so. */
  onProcessEnd(listener: (vmId: string) => Promise<void>): void {
    this.exitListeners.push(listener);
  }

  /** Puts a machine on a host; the answer comes while it still waits for launch. */
  start(vm: Vm, body: ApiObject, requester: Requester): string {
    const { core } = this;
    const { db } = core;
    const resuming = vm.status === 'suspended';
    const holder = `start-${vm.id}`;
    takeLocks(core.locks, { holder, message: 'OBJECT_LOCKED', exclusive: [`vm:${vm.id}`] }, vm.name);
    try {
      this.requireStartable(vm);
      const drive = configDriveOfStart(vm, body);
      const host = chooseHost(core, vm, body);
      const runOnce = objectOf(body, 'vm');
      db.vms.update(vm.id, {
        status: this.next(vm, resuming ? 'restoring_state' : 'wait_for_launch'),
        hostId: host.id,
        startTime: core.clock.now(),
        stopReason: undefined,
        statusDetail: undefined,
        ...optional('runOnce', runOnce),
        guestOfRun: guestOfRun(core.settings, drive),
      });
      const job = core.jobs.start(`Launching VM ${vm.name}`, requester);
      core.events.log(
        153,
        'normal',
        `VM ${vm.name} was started by a user (Host: ${host.name}).`,
        this.refs(vm.id, requester),
        requester.correlationId,
      );
      core.background(() => this.finishStart(vm.id, host, drive, { holder, jobId: job.id, requester }));
      return job.id;
    } catch (error) {
      core.locks.release(holder);
      throw error;
    }
  }

  /** `stop` ends the process at once; with `force` as if the power went, so that change tracking is lost. */
  stop(vm: Vm, body: ApiObject, requester: Requester): string {
    return this.halt(vm, body, requester, { delayMs: 0, graceful: flagOf(body, 'force') !== true, verb: 'Stopping' });
  }

  /** Asks the guest; one that does not go in time is up again. */
  shutdown(vm: Vm, body: ApiObject, requester: Requester): string {
    return this.halt(vm, body, requester, { delayMs: SHUTDOWN_MS, graceful: true, asksGuest: true, verb: 'Shutting down' });
  }

  reboot(vm: Vm, body: ApiObject, requester: Requester): string {
    const { core } = this;
    this.requireNoBackup(vm, body);
    if (vm.status !== 'up') throw refuse(isRunning(vm.status) ? 'VM_IS_NOT_UP' : 'VM_IS_NOT_RUNNING', vm.name);
    core.db.vms.update(vm.id, { status: this.next(vm, 'reboot_in_progress') });
    const job = core.jobs.start(`Rebooting VM ${vm.name}`, requester);
    core.clock.after(BOOT_MS, () => {
      this.advance(vm.id, 'reboot_in_progress', 'up');
      core.jobs.end(job.id, true);
    });
    return job.id;
  }

  async suspend(vm: Vm, requester: Requester): Promise<string> {
    const { core } = this;
    this.requireNoBackup(vm, {});
    if (vm.status !== 'up') throw refuse('VM_IS_NOT_UP', vm.name);
    const request = { holder: `suspend-${vm.id}`, message: 'OBJECT_LOCKED', exclusive: [`vm:${vm.id}`] } as const;
    return core.jobs.run(`Suspending VM ${vm.name}`, requester, (job) =>
      underLocks(core.locks, request, vm.name, async () => {
        core.db.vms.update(vm.id, { status: this.next(vm, 'saving_state') });
        if (!vm.pretended) await core.fleet.stopVm(vm.id, true);
        core.db.vms.update(vm.id, { status: 'suspended', hostId: undefined });
        return job.id;
      }),
    );
  }

  migrate(vm: Vm, body: ApiObject, requester: Requester): string {
    const { core } = this;
    const { db } = core;
    this.requireNoBackup(vm, {});
    if (vm.status !== 'up') throw refuse('VM_IS_NOT_UP', vm.name);
    if (db.attachments.find((attachment) => attachment.vmId === vm.id && attachment.snapshotId !== undefined))
      throw refuse('VM_STATUS_ILLEGAL', vm.name);
    const holder = `migrate-${vm.id}`;
    takeLocks(core.locks, { holder, message: 'MIGRATION_IN_PROGRESS', exclusive: [`vm:${vm.id}`] }, vm.name);
    const wanted = objectOf(body, 'host');
    const target = db.hosts.find(
      (host) => isFit(host, vm) && host.id !== vm.hostId && (wanted === undefined || host.id === textOf(wanted, 'id')),
    );
    if (target === undefined) {
      core.locks.release(holder);
      throw refuse('NO_HOST_FITS', vm.name);
    }
    db.vms.update(vm.id, { status: this.next(vm, 'migrating') });
    const job = core.jobs.start(`Migrating VM ${vm.name}`, requester);
    core.clock.after(BOOT_MS, () => {
      if (db.vms.get(vm.id)?.status === 'migrating') db.vms.update(vm.id, { status: 'up', hostId: target.id });
      core.locks.release(holder);
      core.jobs.end(job.id, true);
      core.events.log(
        63,
        'normal',
        `Migration of VM ${vm.name} to host ${target.name} completed.`,
        this.refs(vm.id, requester),
        requester.correlationId,
      );
    });
    return job.id;
  }

  /** 200 means frozen; without an answering agent 400 and event 10769. */
  async freeze(vm: Vm, requester: Requester): Promise<void> {
    await this.talkToAgent(vm, requester, 'freeze');
  }

  async thaw(vm: Vm, requester: Requester): Promise<void> {
    await this.talkToAgent(vm, requester, 'thaw');
  }

  /** Listens to the hosts, and takes over what runs after a restart of the engine. */
  async recover(): Promise<void> {
    const { core } = this;
    const { db, fleet } = core;
    fleet.onVmExit((vmId) => {
      core.clock.after(HOST_REFRESH_MS, () => this.noticeExit(vmId));
    });
    for (const vm of db.vms.list((candidate) => isRunning(candidate.status))) {
      if (vm.pretended) {
        db.vms.update(vm.id, { status: vm.status === 'powering_down' ? 'down' : 'up' });
        continue;
      }
      const state = await fleet.vmState(vm.id);
      if (state === 'absent' || state === 'crashed' || state === 'ended')
        await this.goDown(vm.id, state !== 'ended' && vm.status !== 'powering_down' && vm.status !== 'saving_state');
      else if (vm.status === 'powering_down') core.background(() => this.finishHalt(vm.id, { graceful: true }, undefined));
      else db.vms.update(vm.id, { status: state === 'paused' ? 'paused' : 'up' });
    }
  }

  private async finishStart(
    vmId: string,
    host: Host,
    drive: ConfigDrive | undefined,
    { holder, jobId, requester }: { readonly holder: string; readonly jobId: string; readonly requester: Requester },
  ): Promise<void> {
    const { core } = this;
    const { db, clock, fleet } = core;
    const vm = db.vms.require(vmId);
    try {
      await core.step('vm.start', vmId);
      await clock.sleep(LAUNCH_MS);
      if (!vm.pretended) {
        await fleet.startVm(host.id, {
          vmId,
          name: vm.name,
          memoryBytes: vm.memoryBytes,
          disks: await this.attachments.disksForStart(vm),
          guest: vm.guestOfRun ?? vm.guest,
          macAddresses: db.nics.list((nic) => nic.vmId === vmId && nic.plugged && nic.linked).map((nic) => nic.macAddress),
          machine: machineOf(db, vm),
          ...optional('configDrive', drive),
          clockOffsetSeconds: vm.clockOffsetSeconds ?? (vm.guestOfRun === undefined ? 0 : core.workerVms.clockOffsetSeconds),
          ...(vm.guestOfRun !== undefined && { bootDelaySeconds: takeBootDelay(core) }),
        });
      }
      db.vms.update(vmId, { initialized: true });
    } catch (error) {
      core.log.error(`start of VM ${vmId} failed`, error);
      core.locks.release(holder);
      db.vms.update(vmId, { status: 'down', hostId: undefined, runOnce: undefined, guestOfRun: undefined });
      core.jobs.end(jobId, false);
      core.events.log(
        54,
        'error',
        `Failed to run VM ${vm.name} on host ${host.name}.`,
        this.refs(vmId, requester),
        requester.correlationId,
      );
      return;
    }
    core.locks.release(holder);
    core.jobs.end(jobId, true);
    this.advance(vmId, 'wait_for_launch', 'powering_up');
    await this.waitForGuest(vm);
    this.advance(vmId, 'powering_up', 'up');
    this.advance(vmId, 'restoring_state', 'up');
  }

  /** Up when the guest answers, at the latest after a minute. */
  private async waitForGuest(vm: Vm): Promise<void> {
    const { clock, fleet } = this.core;
    await clock.sleep(BOOT_MS);
    const { guestOfRun: kind = vm.guest } = this.core.db.vms.get(vm.id) ?? vm;
    if (kind === 'none' || vm.pretended) return;
    const since = clock.now();
    while (clock.elapsedMs(since) < NO_AGENT_UP_MS && (await fleet.vmState(vm.id)) === 'starting') await clock.sleep(HOST_REFRESH_MS);
  }

  private halt(
    vm: Vm,
    body: ApiObject,
    requester: Requester,
    how: { delayMs: number; graceful: boolean; asksGuest?: boolean; verb: string },
  ): string {
    const { core } = this;
    if (vm.status === 'suspended') {
      core.db.vms.update(vm.id, { status: 'down' });
      return core.jobs.start(`${how.verb} VM ${vm.name}`, requester).id;
    }
    if (!isRunning(vm.status)) throw refuse('VM_IS_NOT_RUNNING', vm.name);
    this.requireNoBackup(vm, body);
    if (!VM_TRANSITIONS[vm.status].includes('powering_down')) throw refuse('VM_STATUS_ILLEGAL', vm.name);
    core.db.vms.update(vm.id, { status: this.next(vm, 'powering_down'), ...optional('stopReason', textOf(body, 'reason')) });
    const job = core.jobs.start(`${how.verb} VM ${vm.name}`, requester);
    core.clock.after(how.delayMs, () => this.finishHalt(vm.id, how, job.id));
    return job.id;
  }

  private async finishHalt(
    vmId: string,
    { graceful, asksGuest = false }: { readonly graceful: boolean; readonly asksGuest?: boolean },
    jobId: string | undefined,
  ): Promise<void> {
    const { core } = this;
    const vm = core.db.vms.require(vmId);
    try {
      await core.step('vm.stop', vmId);
      if (asksGuest && vm.guestOfRun !== undefined && !(await core.fleet.shutdownVm(vmId, GUEST_SHUTDOWN_MS))) {
        // Unless somebody has stopped it meanwhile.
        this.advance(vmId, 'powering_down', 'up');
        if (jobId !== undefined) core.jobs.end(jobId, false);
        return;
      }
      if (!vm.pretended) await core.fleet.stopVm(vmId, graceful);
      if (core.db.vms.get(vmId)?.status !== 'down') await this.goDown(vmId, false);
      if (jobId !== undefined) core.jobs.end(jobId, true);
    } catch (error) {
      core.log.error(`stop of VM ${vmId} failed`, error);
      this.advance(vmId, 'powering_down', 'up');
      if (jobId !== undefined) core.jobs.end(jobId, false);
    }
  }

  private async noticeExit(vmId: string): Promise<void> {
    const vm = this.core.db.vms.get(vmId);
    if (vm === undefined || !isRunning(vm.status)) return;
    const state = await this.core.fleet.vmState(vmId);
    // It may have been started again since.
    if (state === 'absent' || state === 'crashed') await this.goDown(vmId, true);
    // Its guest went off by itself: that is no error.
    if (state === 'ended') await this.goDown(vmId, false);
  }

  private async goDown(vmId: string, unexpected: boolean): Promise<void> {
    const { core } = this;
    const vm = core.db.vms.require(vmId);
    for (const listener of this.exitListeners) {
      await listener(vmId).catch((error: unknown) => {
        core.log.error(`clean-up after VM ${vmId} failed`, error);
      });
    }
    if (!vm.pretended) await this.attachments.dropOverlays(vmId);
    core.db.vms.update(vmId, {
      status: 'down',
      hostId: undefined,
      runOnce: undefined,
      guestOfRun: undefined,
      startTime: undefined,
      stopTime: core.clock.now(),
    });
    applyNextRun(core, vmId);
    if (unexpected) core.events.log(119, 'error', `VM ${vm.name} is down with error. Its process ended unexpectedly.`, { vmId });
    else core.events.log(61, 'normal', `VM ${vm.name} is down.`, { vmId });
  }

  private async talkToAgent(vm: Vm, requester: Requester, what: 'freeze' | 'thaw'): Promise<void> {
    const { core } = this;
    if (vm.status !== 'up') throw refuse('VM_IS_NOT_UP', vm.name);
    try {
      await core.step(`vm.${what}`, vm.id);
      if (!vm.pretended) await core.fleet[what](vm.id);
    } catch (error) {
      core.log.error(`${what} of VM ${vm.id} failed`, error);
      const code = what === 'freeze' ? 10769 : 10772;
      core.events.log(
        code,
        'error',
        `Failed to ${what} guest file systems on VM ${vm.name}.`,
        this.refs(vm.id, requester),
        requester.correlationId,
      );
      throw executionFailed();
    }
    const code = what === 'freeze' ? 10768 : 10771;
    core.events.log(
      code,
      'normal',
      `Guest file systems of VM ${vm.name}: ${what} done.`,
      this.refs(vm.id, requester),
      requester.correlationId,
    );
  }

  private requireStartable(vm: Vm): void {
    const { db } = this.core;
    if (vm.status === 'image_locked') throw refuse('VM_IMAGE_IS_LOCKED', vm.name);
    if (vm.status !== 'down' && vm.status !== 'suspended') throw refuse('VM_IS_RUNNING', vm.name);
    if (db.snapshots.find((snapshot) => snapshot.vmId === vm.id && snapshot.status === 'locked'))
      throw refuse('VM_IS_DURING_SNAPSHOT', vm.name);
    const disks = disksOfVm(db, vm.id).filter(({ attachment }) => attachment.active);
    requireUsable(disks.map(({ disk }) => disk));
    for (const { disk } of disks) {
      const blocker = this.core.locks.blocker(`disk:${disk.id}`, false);
      // A hybrid backup leaves the machine free; anything else that holds a disk alone does not.
      if (blocker === 'DISK_IS_BEING_TRANSFERRED') throw refuse(blocker, disk.name);
    }
    if (!vm.pretended && bootsFromDisk(vm) && !disks.some(({ attachment }) => attachment.bootable))
      throw refuse('NO_BOOTABLE_DISK', vm.name);
  }

  private requireNoBackup(vm: Vm, body: ApiObject): void {
    if (flagOf(body, 'force') !== true && backupBlocksPower(this.core.db, vm.id)) throw refuse('VM_IS_DURING_BACKUP', vm.name);
  }

  private next(vm: Vm, status: VmStatus): VmStatus {
    return follow('vm', VM_TRANSITIONS, vm.status, status);
  }

  /** The step only if the machine is still where it was: it may have died or been stopped meanwhile. */
  private advance(vmId: string, from: VmStatus, to: VmStatus): void {
    const vm = this.core.db.vms.get(vmId);
    if (vm?.status === from) this.core.db.vms.update(vmId, { status: this.next(vm, to) });
  }

  private refs(vmId: string, requester: Requester): EventRefs {
    return { vmId, userId: requester.userId };
  }
}

/** Unless the configured boot order leaves the disk out. */
function bootsFromDisk(vm: Vm): boolean {
  const devices = objectOf(objectOf(vm.attributes, 'os'), 'boot')?.['devices'];
  return !Array.isArray(devices) || devices.length === 0 || devices.includes('hd');
}

function takeBootDelay({ workerVms }: Core): number {
  const { bootDelaySeconds } = workerVms;
  workerVms.bootDelaySeconds = 0;
  return bootDelaySeconds;
}
