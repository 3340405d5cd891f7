import { EngineOverTls, type Answer } from '../testing/engine-over-tls';

describe('the control endpoint', () => {
  let engine: EngineOverTls;

  beforeEach(async () => {
    engine = await EngineOverTls.open();
  });
  afterEach(async () => {
    await engine.close();
  });

  const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
    const deadline = Date.now() + 60_000;
    while (!(await condition())) {
      if (Date.now() > deadline) {
        throw new Error(`waited in vain; the engine logged ${engine.logged.join('\n')}`);
      }
      await new Promise((wake) => setTimeout(wake, 5));
    }
  };
  const must = async (answer: Promise<Answer>): Promise<Record<string, unknown>> => {
    const { status, json, text } = await answer;
    if (status > 299) {
      throw new Error(`${String(status)} ${text}`);
    }
    return json;
  };
  /** A stopped VM with one disk, made through the API. */
  const stoppedVm = async (): Promise<{ id: string; diskId: string }> => {
    const vm = await must(engine.api('POST', '/vms', { name: 'web', cluster: { name: 'Default' }, template: { name: 'Blank' } }));
    const id = String(vm['id']);
    const attachment = await must(
      engine.api('POST', `/vms/${id}/diskattachments`, {
        interface: 'virtio_scsi',
        bootable: true,
        active: true,
        disk: { name: 'system', format: 'cow', provisioned_size: 1024 ** 3, storage_domains: { storage_domain: [{ name: 'data-1' }] } },
      }),
    );
    const diskId = String(attachment['id']);
    await until(() => engine.core.db.disks.get(diskId)?.status === 'ok');
    return { id, diskId };
  };
  const runningVm = async (): Promise<{ id: string; diskId: string }> => {
    const { id, diskId } = await stoppedVm();
    await must(engine.api('POST', `/vms/${id}/start`, {}));
    await until(() => engine.core.db.vms.get(id)?.status === 'up');
    return { id, diskId };
  };

  it('lists what it can do', async () => {
    const { routes } = (await engine.steer('GET', '/')) as { routes: { route: string; does: string }[] };
    expect(routes.map(({ route }) => route)).toContain('POST /vms/:vm/kill');
    expect(routes.every(({ does }) => does.length > 0)).toBe(true);
  });

  it('writes into a running VM and kills it, which the engine notices', async () => {
    const { id } = await runningVm();
    await engine.steer('POST', '/vms/web/write', { disk: 'system', offsetBytes: 0, lengthBytes: 4096, pattern: 'random', seed: 1 });
    expect(engine.fleet.calls.some(({ method }) => method === 'writeBlocks')).toBe(true);
    await expect(engine.steer('POST', '/vms/web/write', { disk: 'system', offsetBytes: 0, lengthBytes: 1, pattern: 'x' })).rejects.toThrow(
      '400',
    );
    await engine.steer('POST', `/vms/${id}/kill`);
    await until(() => engine.core.db.vms.get(id)?.status === 'down');
  });

  it('damages a bitmap, so that the chain is lost', async () => {
    const { id, diskId } = await runningVm();
    const backup = await must(engine.api('POST', `/vms/${id}/backups?legacy=true`, { disks: { disk: [{ id: diskId }] } }));
    const path = `/vms/${id}/backups/${String(backup['id'])}`;
    const phase = async (): Promise<unknown> => (await engine.api('GET', path)).json['phase'];
    await until(async () => (await phase()) === 'ready');
    const checkpoint = String((await engine.api('GET', path)).json['to_checkpoint_id']);
    await must(engine.api('POST', `${path}/finalize`, {}));
    await until(async () => (await phase()) === 'succeeded');
    expect(await engine.steer('GET', '/disks/system/bitmaps')).toMatchObject([{ name: checkpoint, consistent: true }]);
    await engine.steer('POST', '/disks/system/bitmaps/damage', { checkpoint, how: 'remove' });
    const next = await engine.api('POST', `/vms/${id}/backups?legacy=true`, {
      from_checkpoint_id: checkpoint,
      disks: { disk: [{ id: diskId }] },
    });
    expect([next.status, next.json['detail']]).toEqual([400, '[]']);
    expect(engine.core.events.list().map(({ code }) => code)).toContain(10791);
  });

  it('shows rows, locks and the clock, and changes the clock', async () => {
    engine.core.locks.tryAcquire({ holder: 'me', message: 'OBJECT_LOCKED', exclusive: ['vm:x'] });
    await engine.steer('POST', '/clock', { factor: 7 });
    expect(await engine.steer('GET', '/state')).toMatchObject({
      up: true,
      clockFactor: 7,
      sizes: { clusters: 2 },
      locks: [{ name: 'vm:x', holder: 'me' }],
    });
    expect(await engine.steer('GET', '/entities/clusters')).toMatchObject([{ name: 'Default' }, { name: 'Level45' }]);
  });

  it('breaks an internal step', async () => {
    const { id } = await stoppedVm();
    await engine.steer('POST', '/faults', { match: { step: 'vm.start' }, effect: { kind: 'fault', status: 400 } });
    await must(engine.api('POST', `/vms/${id}/start`, {}));
    await until(() => engine.core.events.list().some(({ code }) => code === 54));
    expect(engine.core.db.vms.get(id)?.status).toBe('down');
    await must(engine.api('POST', `/vms/${id}/start`, {}));
    await until(() => engine.core.db.vms.get(id)?.status === 'up');
  });

  it('takes memory and space away, and puts clocks off', async () => {
    const { id } = await stoppedVm();
    const [host] = engine.core.db.hosts.list();
    for (const { name } of engine.core.db.hosts.list()) await engine.steer('POST', `/hosts/${name}/memory`, { bytes: 1024 ** 2 });
    const refused = await engine.api('POST', `/vms/${id}/start`, {});
    expect([refused.status, JSON.stringify(refused.json)]).toEqual([409, expect.stringContaining(`${host?.name ?? ''} did not satisfy`)]);
    await engine.steer('POST', '/storagedomains/data-1/space', { freeBytes: 1 });
    const disk = { name: 'x', format: 'cow', provisioned_size: 1024, storage_domains: { storage_domain: [{ name: 'data-1' }] } };
    expect((await engine.api('POST', '/disks', disk)).status).toBe(409);
    await engine.steer('POST', '/storagedomains/data-1/space');
    expect((await engine.api('POST', '/disks', disk)).status).toBe(202);
    await engine.steer('POST', `/vms/${id}/clock`, { offsetSeconds: -60 });
    expect(engine.core.db.vms.get(id)?.clockOffsetSeconds).toBe(-60);
    await engine.steer('POST', '/worker-vms', { clockOffsetSeconds: 5, bootDelaySeconds: 7 });
    expect(engine.core.workerVms).toEqual({ clockOffsetSeconds: 5, bootDelaySeconds: 7 });
  });

  it('restarts the engine with other settings', async () => {
    await engine.steer('POST', '/engine/restart', { downMs: 0, settings: { transferInactivitySeconds: 5 } });
    expect((await engine.api('GET', '/options/TransferImageClientInactivityTimeoutInSeconds')).text).toContain('"5"');
  });
});
