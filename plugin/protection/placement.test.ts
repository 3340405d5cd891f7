import { eventually } from '../testing/eventually';
import { addWorkerVm, backupOf, newEngine, startBench } from '../testing/protection-bench';

/** What a backup takes of a host and of storage domains is the dispatcher's to count; the flow has to say where the VM is. */
describe('backups that run at the same time', () => {
  it.each([
    ['of VMs on one host: two of them', 'image-transfer', 'h1', ['sd1', 'sd2', 'sd3'], 2, 'host-slots'],
    ['of VMs on one storage domain: four of them', 'disk-attachment', undefined, ['sd1', 'sd1', 'sd1', 'sd1', 'sd1'], 4, 'storage-slots'],
  ] as const)('%s, the next one waits and says for what', async (_name, transport, hostId, domains, running, reason) => {
    const engine = newEngine();
    await using at = await startBench({ engine, workers: 0, workerVms: [addWorkerVm(engine)], slots: 16 });
    for (const domain of domains) engine.domains.set(domain, { storageType: 'nfs', status: 'active' });
    at.worker.answer = () => 'hang';
    const requests = domains.map((storageDomainId, index) => {
      const vm = engine.addVm(`vm${index}`, [{ storageDomainId }]);
      vm.vm.hostId = hostId;
      return backupOf(vm, { transport });
    });
    for (const request of requests) await at.protection.startBackup(request, request.operationId);
    await eventually('the tasks', () => at.worker.tasks.length === running);
    const waiting = at.registry.get(requests.at(-1)!.operationId);
    const reasons: string[] = [];
    for await (const next of waiting.watch(0, 50, AbortSignal.timeout(2_000))) {
      if (next?.event.type === 'state') reasons.push(next.event.waitingReason);
      if (reasons.includes(reason) || next?.event.type === 'result') break;
    }
    expect(reasons).toContain(reason);
    expect(at.worker.tasks).toHaveLength(running);
  });
});
