import type { Disk } from '../../engine/disks';
import { EngineErrors } from '../../engine/engine-errors';
import type { Host } from '../../engine/hosts';
import type { StorageDomain } from '../../engine/storage-domains';
import type { Wire } from '../../engine/mapping';
import type { Vm } from '../../engine/vms';
import type { ByteRange } from '../../image-service/zero-ranges';
import type { Clock } from '../../operations/clock';
import type { FakeTransfer, FakeVm, Mutable } from '../fake-rows';

export type Hook = (call: string, args: readonly unknown[]) => void;

export const finalBackup = ['succeeded', 'failed'];
export const finalTransfer = ['finished_success', 'finished_failure'];

/** What the engine in memory knows, the knobs that a test turns, and how each call goes. The resources beside this file work on it. */
export class FakeWorld {
  readonly vmsById = new Map<string, FakeVm>();
  readonly disksById = new Map<string, Mutable<Disk>>();
  readonly transfersById = new Map<string, FakeTransfer>();
  readonly domains = new Map<string, { storageType: string; status: string } & Partial<StorageDomain>>([
    ['sd1', { storageType: 'nfs', status: 'active' }],
  ]);
  readonly profiles = new Map([['profile1', 'ovirtmgmt']]);
  readonly tagNames = new Set<string>();
  /** Compatibility level of the one cluster. */
  level = { major: 4, minor: 6 };
  /** disk/checkpoint pairs whose bitmap is gone. */
  readonly brokenBitmaps = new Set<string>();
  /** Why backups fail while they start; empty: they do not. */
  startFailure = '';
  /** The host does not let go of tickets. */
  ticketsStuck = false;
  /** The merge of a snapshot fails this often. */
  failingMerges = 0;
  /** Snapshots that are asked for do not come about. */
  failingSnapshots = 0;
  /** The guest agent cannot freeze. */
  freezeFailure = '';
  /** VMs whose file systems stand still now. */
  readonly frozen = new Set<string>();
  /** So many hot plugs fail on the host; the disk hangs on the VM then, unplugged. */
  failingPlugs = 0;
  /** So many hot unplugs fail on the host. */
  failingUnplugs = 0;
  /** As engines after 4.5.7: taking a disk off a VM drops its bitmaps and checkpoints. */
  detachWipesCheckpoints = false;
  /** So many transfers cannot start: no host, or its imageio is away. */
  failingTransfers = 0;
  /** Finished rows are forgotten at once, as engines before 4.4.7 did. */
  forgetful = false;
  /** What the image service knows to be zero of a disk, by its id. */
  readonly zeroRanges = new Map<string, readonly ByteRange[]>();
  /** What was uploaded into a disk, by its id. */
  readonly contents = new Map<string, string>();
  /** False: as an engine that knows no copies. */
  copiesDisks = true;
  /** So many starts with a config drive are accepted, and the VM falls again. */
  failingStarts = 0;
  /** Guests hear no request to shut down. */
  deafGuests = false;
  readonly headless = new Set<string>();
  readonly antiAffinity = new Map<string, { id: string; name: string; vmIds: string[] }>();
  hostRows: Host[] = [{ id: 'h1', name: 'host1', address: 'host1', status: 'up', clusterId: 'cluster1', vdsmVersion: undefined }];
  /** A VM came up with this config drive. */
  poweredOn: (vmId: string, runOnce: Wire) => void = () => undefined;
  poweredOff: (vmId: string) => void = () => undefined;
  away = false;
  before: Hook = () => undefined;
  after: Hook = () => undefined;
  readonly calls: string[] = [];
  lastFailure = '';

  constructor(
    readonly clock: Clock,
    public stepMs = 2000,
  ) {}

  /** A method of a resource: asynchronous, counted, and with the faults that the test wants. */
  call<A extends readonly unknown[], R>(name: string, work: (...args: A) => R): (...args: [...A, ...unknown[]]) => Promise<R> {
    return async (...args) => {
      await Promise.resolve();
      this.calls.push(name);
      if (this.away) throw EngineErrors.ENGINE_UNAVAILABLE({ engine: 'fake', problem: 'restarting' });
      this.before(name, args);
      const result = work(...(args as unknown as A));
      this.after(name, args);
      return result;
    };
  }

  /** What the engine does by itself, a step later. */
  later(work: () => void): void {
    void this.clock.sleep(this.stepMs).then(work);
  }

  /** Throws ENGINE_NOT_FOUND. */
  vm(id: string): FakeVm {
    const found = this.vmsById.get(id);
    if (!found) throw EngineErrors.ENGINE_NOT_FOUND({ what: `vms/${id}` });
    return found;
  }

  view(found: FakeVm): Vm;
  view(found: FakeVm | undefined): Vm | undefined;
  view(found: FakeVm | undefined): Vm | undefined {
    return (
      found && {
        ...found.vm,
        diskAttachments: found.attachments.map((a) => {
          const disk = copy(this.disksById.get(a.diskId));
          return { ...a, disk: disk && { ...disk, snapshotId: a.snapshotId } };
        }),
        nics: found.nics,
        tags: found.tags.map((name) => ({ id: name, name })),
        snapshots: found.snapshots.map((s) => ({ ...s })),
      }
    );
  }
}

export function refused(httpStatus: number, detail: string) {
  return EngineErrors.ENGINE_REFUSED({ operation: 'POST', httpStatus, detail });
}

export function conflict(detail: string) {
  return EngineErrors.ENGINE_CONFLICT({ operation: 'POST', detail }, { retryDelayMs: 5000 });
}

export function copy<T extends object>(value: T | undefined): T | undefined {
  return value && { ...value };
}
