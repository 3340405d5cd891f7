import type { EngineRun } from '../engine';
import { ControlError, named, type ControlRoute, wantNumber } from './control-route';

/** What the control endpoint can change of a lab's capacity and of its machines' clocks. */
export function capacityControls(run: () => EngineRun): ControlRoute[] {
  return [
    {
      method: 'POST',
      pattern: '/hosts/:host/memory',
      does: 'the memory of the host: {bytes}; machines that run keep theirs',
      handle: ([name = ''], body) => {
        const { hosts } = run().core.db;
        hosts.update(named(hosts, name, 'host').id, { memoryBytes: wantNumber(body, 'bytes') });
      },
    },
    {
      method: 'POST',
      pattern: '/storagedomains/:domain/space',
      does: 'the storage domain says it has no more than {freeBytes} free, and refuses below its critical limit; without it, what is true',
      handle: ([name = ''], body) => {
        const { storageDomains } = run().core.db;
        const { id } = named(storageDomains, name, 'storage domain');
        storageDomains.update(id, { mostFreeBytes: body['freeBytes'] === undefined ? undefined : wantNumber(body, 'freeBytes') });
      },
    },
    {
      method: 'POST',
      pattern: '/storagedomains/:domain/full',
      does: 'what is uploaded there in raw format from now on fails for want of space, whatever the domain says: {full}',
      handle: ([name = ''], body) => {
        const { storageDomains } = run().core.db;
        storageDomains.update(named(storageDomains, name, 'storage domain').id, { full: body['full'] === true });
      },
    },
    {
      method: 'POST',
      pattern: '/vms/:vm/clock',
      does: 'the clock of a worker VM is off by {offsetSeconds}, from its next start on',
      handle: ([name = ''], body) => {
        const { vms } = run().core.db;
        const offset = wantNumber(body, 'offsetSeconds');
        if (!Number.isInteger(offset)) {
          throw new ControlError(400, '"offsetSeconds" must be whole seconds');
        }
        vms.update(named(vms, name, 'VM').id, { clockOffsetSeconds: offset });
      },
    },
    {
      method: 'POST',
      pattern: '/worker-vms',
      does: 'what later starts of worker VMs get: {clockOffsetSeconds?}; applies to machines that do not exist yet too; {bootDelaySeconds?}: the next one comes up so much later',
      handle: (_, body) => {
        const { workerVms } = run().core;
        workerVms.clockOffsetSeconds = wantNumber(body, 'clockOffsetSeconds', 0);
        workerVms.bootDelaySeconds = wantNumber(body, 'bootDelaySeconds', 0);
      },
    },
  ];
}
