import { EngineBench, MIB, type Answer, type BenchOptions, text } from '../testing/engine-bench';
import { FakeFleet } from '../testing/fake-fleet';

describe('image transfers of the simulated engine', () => {
  let fleet: FakeFleet;
  let bench: EngineBench;

  const open = async (options: BenchOptions = {}): Promise<void> => {
    fleet = new FakeFleet();
    bench = await EngineBench.open(fleet, options);
  };
  afterEach(() => bench.close());

  const post = (body: Record<string, unknown>): Promise<Answer> => bench.call('POST', '/imagetransfers', body as never);
  const act = (id: string, action: string): Promise<Answer> => bench.call('POST', `/imagetransfers/${id}/${action}`);
  const phaseOf = (id: string): string | undefined => bench.db.transfers.get(id)?.phase;
  const reach = (id: string, phase: string): Promise<void> =>
    bench.until(() => phaseOf(id) === phase, `transfer in ${phase}, is ${String(phaseOf(id))}`);
  const ticketOf = (id: string): string => bench.db.transfers.require(id).ticketId ?? '';
  const hostOf = (id: string): string => bench.db.transfers.require(id).hostId ?? '';
  const download = async (diskId: string, extra: Record<string, unknown> = {}): Promise<string> =>
    text((await post({ disk: { id: diskId }, direction: 'download', format: 'raw', ...extra })).body['id']);
  const upload = async (diskId: string, extra: Record<string, unknown> = {}): Promise<string> =>
    text((await post({ disk: { id: diskId }, format: 'raw', ...extra })).body['id']);

  describe('download', () => {
    it('is transferring in the first answer, with the same ticket on host and proxy', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const { body, status } = await post({ disk: { id: disk.id }, direction: 'download', format: 'raw' });
      expect(status).toBe(201);
      const id = text(body['id']);
      expect(body).toMatchObject({
        phase: 'transferring',
        image: { id: disk.id },
        transferred: 0,
        active: false,
        inactivity_timeout: 60,
        timeout_policy: 'legacy',
      });
      for (const field of ['disk', 'backup', 'snapshot']) expect(body[field]).toBeUndefined();
      expect(body['transfer_url']).toBe(`https://${hostOf(id)}.lab:54322/images/${ticketOf(id)}`);
      expect(body['proxy_url']).toBe(`https://engine.lab:54323/images/${ticketOf(id)}`);
      expect(fleet.tickets.get(`${hostOf(id)}/${ticketOf(id)}`)?.ticket).toMatchObject({
        sizeBytes: disk.provisionedSizeBytes,
        ops: ['read'],
        timeoutSeconds: 300,
      });
      expect(fleet.tickets.get(`proxy/${ticketOf(id)}`)?.ticket.url).toBe(body['transfer_url']);
      expect(bench.db.disks.require(disk.id).status).toBe('locked');
    });

    it('ends in finished_success after finalize, without tickets, exports or locks', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      expect((await act(id, 'finalize')).status).toBe(200);
      const view = (await bench.call('GET', `/imagetransfers/${id}`)).body;
      expect(view).toMatchObject({ phase: 'finalizing_success' });
      expect([view['transfer_url'], view['proxy_url']]).toEqual([undefined, undefined]);
      await reach(id, 'finished_success');
      expect([fleet.tickets.size, fleet.exports.size, bench.core.locks.list().length]).toEqual([0, 0, 0]);
      expect(bench.db.disks.require(disk.id).status).toBe('ok');
    });

    it('is finalized by the engine once everything was read and it is idle', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      fleet.setTicket(hostOf(id), ticketOf(id), { active: true, transferredBytes: disk.provisionedSizeBytes });
      await bench.until(() => bench.db.transfers.require(id).active, 'active shown');
      expect(phaseOf(id)).toBe('transferring');
      fleet.setTicket(hostOf(id), ticketOf(id), { active: false });
      await reach(id, 'finished_success');
      expect(bench.db.transfers.require(id).transferredBytes).toBe(disk.provisionedSizeBytes);
    });

    it('is cancelled over finalizing_cleanup and finished_cleanup to finished_failure, and leaves the disk ok', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      const seen = new Set<string | undefined>();
      await act(id, 'cancel');
      await bench.until(() => {
        seen.add(phaseOf(id));
        return phaseOf(id) === 'finished_failure';
      }, 'finished');
      expect(seen.has('finished_success')).toBe(false);
      expect(bench.db.disks.require(disk.id).status).toBe('ok');
      expect(bench.eventCodes()).toContain(1033);
    });

    it('stays in finalizing while the daemon says that the ticket is busy', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      fleet.setTicket(hostOf(id), ticketOf(id), { busy: true });
      await act(id, 'finalize');
      const before = fleet.countOf('removeTicket');
      await bench.until(() => fleet.countOf('removeTicket') >= before + 4, 'retries');
      expect(phaseOf(id)).toBe('finalizing_success');
      fleet.setTicket(hostOf(id), ticketOf(id), { busy: false });
      await reach(id, 'finished_success');
    });

    it('turns into a cleanup when it is cancelled while finalizing', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      fleet.setTicket(hostOf(id), ticketOf(id), { busy: true });
      await act(id, 'finalize');
      await act(id, 'cancel');
      fleet.setTicket(hostOf(id), ticketOf(id), { busy: false });
      await reach(id, 'finished_failure');
    });

    it('cannot be paused, nor resumed when not paused', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      expect(await act(id, 'pause')).toMatchObject({ status: 400, refusal: 'CANNOT_PAUSE_IMAGE_DOWNLOAD' });
      expect(await act(id, 'resume')).toMatchObject({ status: 409, refusal: 'CANNOT_RESUME_IMAGE_TRANSFER' });
    });

    it('of one volume locks that volume and its machine, not the disk', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [{}], 'up');
      const disk = disks[0];
      const created = await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 's', persist_memorystate: false });
      await bench.until(() => bench.db.snapshots.get(text(created.body['id']))?.status === 'ok', 'snapshot');
      const frozen = (await bench.call('GET', `/disks/${disk?.id ?? ''}/disksnapshots`)).entities;
      expect(frozen).toHaveLength(1);
      const volumeId = text(frozen[0]?.['id']);
      const { body } = await post({ snapshot: { id: volumeId }, direction: 'download', format: 'raw', shallow: true });
      expect(body).toMatchObject({ phase: 'transferring', shallow: true, image: { id: disk?.id } });
      expect(bench.db.disks.require(disk?.id ?? '').status).toBe('ok');
      expect(bench.db.volumes.require(volumeId).status).toBe('locked');
      expect(fleet.calls.find((call) => call.method === 'startNbd')?.args[3]).toEqual({ writable: false, shallow: true });
      expect((await bench.call('POST', `/vms/${vm.id}/snapshots`, { description: 't' })).refusal).toBe('DISK_IS_BEING_TRANSFERRED');
      expect((await bench.call('DELETE', `/vms/${vm.id}/snapshots/${text(created.body['id'])}`)).refusal).toBe('DISK_IS_BEING_TRANSFERRED');
      const proxy = (await bench.addVm('proxy', [{}], 'up')).vm;
      const plug = () =>
        bench.call('POST', `/vms/${proxy.id}/diskattachments`, {
          disk: { id: disk?.id ?? '', snapshot: { id: text(created.body['id']) } },
          interface: 'virtio_scsi',
          active: true,
          bootable: false,
          read_only: true,
        });
      expect((await plug()).refusal).toBe('DISK_IS_BEING_TRANSFERRED');
      await act(text(body['id']), 'finalize');
      await reach(text(body['id']), 'finished_success');
      expect(bench.db.volumes.require(volumeId).status).toBe('ok');
      expect((await plug()).status).toBe(201);
    });

    it('without a format reads the file as it lies on storage', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id, { format: undefined });
      const ticket = fleet.tickets.get(`${hostOf(id)}/${ticketOf(id)}`)?.ticket;
      expect(ticket?.url).toMatch(/^file:\/\//);
      expect(fleet.exports.size).toBe(0);
    });

    it('goes through the host that was asked for, and of a running machine through its own', async () => {
      await open();
      const wanted = bench.hostIds[1] ?? '';
      const disk = await bench.addDisk('d');
      expect(hostOf(await download(disk.id, { host: { id: wanted } }))).toBe(wanted);
      const { vm, disks } = await bench.addVm('web', [{}], 'up');
      const vmHost = bench.db.vms.require(vm.id).hostId ?? '';
      const other = bench.hostIds.find((id) => id !== vmHost) ?? '';
      const backup = await bench.call('POST', `/vms/${vm.id}/backups`, { disks: [{ id: disks[0]?.id ?? '' }] });
      await bench.until(() => bench.db.backups.require(text(backup.body['id'])).phase === 'READY', 'ready');
      const id = await download(disks[0]?.id ?? '', { backup: { id: text(backup.body['id']) }, host: { id: other } });
      expect(hostOf(id)).toBe(vmHost);
    });
  });

  describe('upload', () => {
    it('is the default direction, verifies, and frees the disk', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const answer = await post({ disk: { id: disk.id }, format: 'raw' });
      const id = text(answer.body['id']);
      expect(answer.body).toMatchObject({ direction: 'upload', phase: 'transferring' });
      expect(fleet.tickets.get(`${hostOf(id)}/${ticketOf(id)}`)?.ticket.ops).toEqual(['write']);
      await act(id, 'finalize');
      await reach(id, 'finished_success');
      expect(fleet.countOf('verifyVolume')).toBe(1);
      expect(bench.db.disks.require(disk.id)).toMatchObject({ status: 'ok', actualSizeBytes: 196_608 });
    });

    it.each(['cancel', 'bad image'])('removes the disk on %s', async (how) => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await upload(disk.id);
      if (how === 'bad image') fleet.failNext('verifyVolume', 'UPLOAD_INVALID');
      await act(id, how === 'cancel' ? 'cancel' : 'finalize');
      await reach(id, 'finished_failure');
      expect(bench.db.disks.has(disk.id)).toBe(false);
      expect(fleet.volumes.size).toBe(0);
      expect(bench.core.locks.list()).toEqual([]);
    });

    it('pauses and resumes with a new ticket', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await upload(disk.id);
      const first = ticketOf(id);
      await act(id, 'pause');
      await bench.until(() => fleet.tickets.size === 0, 'ticket taken away');
      expect(phaseOf(id)).toBe('paused_user');
      await act(id, 'resume');
      await reach(id, 'transferring');
      expect(ticketOf(id)).not.toBe(first);
      await act(id, 'finalize');
      await reach(id, 'finished_success');
    });

    it('of a ready image may be larger than the disk on file storage, and is capped by initial_size on block storage', async () => {
      await open();
      const sizeOf = (id: string): number => fleet.tickets.get(`${hostOf(id)}/${ticketOf(id)}`)?.ticket.sizeBytes ?? 0;
      const file = await bench.addDisk('f');
      expect(sizeOf(await upload(file.id, { format: 'cow' }))).toBeGreaterThan(file.provisionedSizeBytes * 1.1);
      bench.db.storageDomains.update(bench.domainIds[0] ?? '', { storageType: 'iscsi' });
      const block = await bench.addDisk('b');
      bench.db.disks.update(block.id, { initialSizeBytes: MIB });
      expect(sizeOf(await upload(block.id, { format: 'cow' }))).toBe(MIB);
    });
  });

  describe('losing its way', () => {
    it.each([
      ['upload', 'legacy', 'paused_system'],
      ['upload', 'pause', 'paused_system'],
      ['upload', 'cancel', 'finished_failure'],
      ['download', 'legacy', 'finished_failure'],
      ['download', 'pause', 'paused_system'],
      ['download', 'cancel', 'finished_failure'],
    ])('an idle %s with policy %s ends in %s', async (direction, policy, expected) => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await (direction === 'upload' ? upload : download)(disk.id, { timeout_policy: policy, inactivity_timeout: 30 });
      fleet.setTicket(hostOf(id), ticketOf(id), { idleSeconds: 100, active: true });
      const looks = fleet.countOf('ticket');
      await bench.until(() => fleet.countOf('ticket') >= looks + 3, 'looks');
      expect(phaseOf(id)).toBe('transferring');
      fleet.setTicket(hostOf(id), ticketOf(id), { active: false });
      await reach(id, expected);
    });

    it('never times out with 0', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id, { inactivity_timeout: 0 });
      fleet.setTicket(hostOf(id), ticketOf(id), { idleSeconds: 1_000_000 });
      const looks = fleet.countOf('ticket');
      await bench.until(() => fleet.countOf('ticket') >= looks + 4, 'looks');
      expect(phaseOf(id)).toBe('transferring');
    });

    it('a restarted daemon cancels downloads and pauses uploads, with event 1065', async () => {
      await open();
      const [a, b] = [await bench.addDisk('a'), await bench.addDisk('b')];
      const [down, up] = [await download(a.id), await upload(b.id)];
      for (const hostId of bench.hostIds) fleet.forgetTickets(hostId);
      await reach(down, 'finished_failure');
      await reach(up, 'paused_system');
      expect(bench.eventCodes()).toContain(1065);
      await act(up, 'resume');
      await reach(up, 'transferring');
    });

    it('the same through the named point transfer.lose-ticket', async () => {
      await open();
      const disk = await bench.addDisk('d');
      bench.fail('transfer.lose-ticket');
      await reach(await download(disk.id), 'finished_failure');
    });

    it('a ticket near its end is renewed on host and proxy; two failures stop the transfer with event 1064', async () => {
      await open();
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      fleet.setTicket(hostOf(id), ticketOf(id), { expiresInSeconds: 100 });
      await bench.until(() => fleet.countOf('extendTicket') === 2, 'renewed');
      fleet.failNext('extendTicket', 'IMAGEIO_UNREACHABLE');
      fleet.setTicket(hostOf(id), ticketOf(id), { expiresInSeconds: 100 });
      await bench.until(() => fleet.countOf('extendTicket') >= 5, 'one failure is forgiven');
      expect(phaseOf(id)).toBe('transferring');
      fleet.failNext('extendTicket', 'IMAGEIO_UNREACHABLE', 2);
      fleet.setTicket(hostOf(id), ticketOf(id), { expiresInSeconds: 100 });
      await reach(id, 'finished_failure');
      expect(bench.eventCodes()).toContain(1064);
    });

    it('no host: finished_failure in the first answer, with event 1067; an upload loses its disk', async () => {
      await open();
      for (const id of bench.hostIds) bench.db.hosts.update(id, { status: 'maintenance' });
      const [a, b] = [await bench.addDisk('a'), await bench.addDisk('b')];
      expect((await post({ disk: { id: a.id }, direction: 'download' })).body['phase']).toBe('finished_failure');
      expect((await post({ disk: { id: b.id } })).body['phase']).toBe('finished_failure');
      expect([bench.db.disks.get(a.id)?.status, bench.db.disks.has(b.id)]).toEqual(['ok', false]);
      expect(bench.eventCodes()).toContain(1067);
    });

    it('a failing export or ticket pauses an upload and cancels a download', async () => {
      await open();
      const [a, b] = [await bench.addDisk('a'), await bench.addDisk('b')];
      fleet.failNext('startNbd', 'QEMU_REFUSED');
      expect(phaseOf(await upload(a.id))).toBe('paused_system');
      fleet.failNext('putTicket', 'IMAGEIO_UNREACHABLE');
      await reach(await download(b.id), 'finished_failure');
      expect(bench.db.disks.require(b.id).status).toBe('ok');
    });

    it('transfers of a live backup die with the machine', async () => {
      await open();
      const { vm, disks } = await bench.addVm('web', [{}], 'up');
      const backup = await bench.call('POST', `/vms/${vm.id}/backups`, { disks: [{ id: disks[0]?.id ?? '' }] });
      await bench.until(() => bench.db.backups.require(text(backup.body['id'])).phase === 'READY', 'ready');
      const id = await download(disks[0]?.id ?? '', { backup: { id: text(backup.body['id']) } });
      fleet.crashVm(vm.id);
      await reach(id, 'finished_failure');
      expect(bench.db.vms.require(vm.id).status).toBe('down');
    });
  });

  describe('validation', () => {
    it('refuses each row of the table', async () => {
      await open();
      const none = '00000000-0000-4000-8000-0000000000ff';
      const { vm, disks } = await bench.addVm('web', [{}, { storageType: 'lun', bootable: false }], 'up');
      const diskId = disks[0]?.id ?? '';
      const free = await bench.addDisk('free');
      const refused = async (body: Record<string, unknown>): Promise<string> => {
        const answer = await post(body);
        return `${String(answer.status)} ${String(answer.refusal)}`;
      };
      expect(await refused({})).toBe('400 INCOMPLETE_PARAMETERS');
      expect(await refused({ disk: { id: free.id }, image: { id: free.id } })).toBe('400 INCOMPLETE_PARAMETERS');
      expect(await refused({ disk: { id: none } })).toBe('404 NOT_FOUND');
      expect(await refused({ disk: { id: diskId }, backup: { id: none } })).toBe('400 VM_BACKUP_NOT_EXIST');
      expect(await refused({ disk: { id: disks[1]?.id } })).toBe('400 TRANSFER_NOT_SUPPORTED');
      expect(await refused({ disk: { id: diskId }, direction: 'download' })).toBe('409 DISK_PLUGGED_TO_NON_DOWN_VMS');
      bench.db.disks.update(free.id, { status: 'illegal' });
      expect(await refused({ disk: { id: free.id } })).toBe('500 DISKS_ILLEGAL');
      bench.db.disks.update(free.id, { status: 'locked' });
      expect(await refused({ disk: { id: free.id } })).toBe('409 DISKS_LOCKED');
      bench.db.disks.update(free.id, { status: 'ok' });
      bench.db.storageDomains.update(bench.domainIds[0] ?? '', { status: 'maintenance' });
      expect(await refused({ disk: { id: free.id } })).toBe('409 STORAGE_DOMAIN_NOT_ACTIVE');
      bench.db.storageDomains.update(bench.domainIds[0] ?? '', { status: 'active' });
      expect(bench.core.locks.list()).toEqual([]);
      await download(free.id);
      expect(await refused({ disk: { id: free.id } })).toBe('409 DISK_IS_BEING_TRANSFERRED');

      const backup = await bench.call('POST', `/vms/${vm.id}/backups`, { disks: [{ id: diskId }] });
      const backupId = text(backup.body['id']);
      const ofBackup = { disk: { id: diskId }, backup: { id: backupId }, direction: 'download' };
      expect(await refused(ofBackup)).toBe('409 VM_BACKUP_NOT_READY');
      await bench.until(() => bench.db.backups.require(backupId).phase === 'READY', 'ready');
      expect(await refused({ ...ofBackup, format: 'cow' })).toBe('400 FORMAT_NOT_APPLICABLE_FOR_BACKUP');
      expect(await refused({ ...ofBackup, disk: { id: free.id } })).toBe('400 DISK_NOT_IN_BACKUP');
      expect(await refused({ ...ofBackup, direction: 'upload' })).toBe('400 UPLOAD_FOR_BACKUP_NOT_SUPPORTED');
      expect((await post(ofBackup)).body['phase']).toBe('transferring');
    });
  });

  describe('afterwards', () => {
    it('rows vanish after their retention, and actions on them still answer 200', async () => {
      await open({ clockFactor: 20_000 });
      const disk = await bench.addDisk('d');
      const id = await download(disk.id);
      const kept = await download((await bench.addDisk('kept')).id);
      for (const each of [id, kept]) await act(each, 'finalize');
      for (const each of [id, kept]) await reach(each, 'finished_success');
      bench.db.transfers.update(id, { updatedAt: Date.now() - 16 * 60_000 });
      await bench.until(() => phaseOf(id) === undefined, 'row cleaned');
      expect(phaseOf(kept)).toBe('finished_success');
      expect((await bench.call('GET', `/imagetransfers/${id}`)).status).toBe(404);
      expect((await act(id, 'finalize')).status).toBe(200);
      expect((await act(id, 'cancel')).status).toBe(200);
    });

    it('a restart of the engine goes on with running transfers, and with their locks', async () => {
      await open();
      const [a, b] = [await bench.addDisk('a'), await bench.addDisk('b')];
      const [down, up] = [await download(a.id), await upload(b.id)];
      await bench.restart();
      expect(bench.core.locks.blocker(`disk:${b.id}`, false)).toBe('DISK_IS_BEING_TRANSFERRED');
      expect([phaseOf(down), phaseOf(up)]).toEqual(['transferring', 'transferring']);
      for (const id of [down, up]) {
        await act(id, 'finalize');
        await reach(id, 'finished_success');
      }
      expect(bench.core.locks.list()).toEqual([]);
    });
  });
});
