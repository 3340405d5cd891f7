import { MockAgent } from 'undici';
import { Secret } from '../../common/log/redact';
import { quietLogger } from '../testing/quiet-logger';
import { Engine } from './engine';
import { EngineSession } from './engine-session';
import { Patience } from '../protection/patience';
import { SteadyClock } from '../testing/steady-clock';

const origin = 'https://engine.example';
const json = { headers: { 'content-type': 'application/json' } };
type Reply = [status: number, body: object | string];

/** Queries in any order. */
function normal(path: string): string {
  const url = new URL(path, origin);
  url.searchParams.sort();
  return url.href;
}

/** An engine whose answers are given per request, in order: `on('GET', '/vms/V', [200, {…}], …)`; the last one repeats. */
function fixture() {
  const agent = new MockAgent();
  agent.disableNetConnect();
  const pool = agent.get(origin);
  pool.intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' }).reply(200, { access_token: 't' }, json).persist();
  const sent: { method: string; path: string; body: unknown }[] = [];
  const on = (method: string, path: string, ...replies: Reply[]) => {
    let index = 0;
    pool
      .intercept({ path: (asked) => normal(asked) === normal(`/ovirt-engine/api${path}`), method })
      .reply((request) => {
        const [statusCode, data] = replies[Math.min(index, replies.length - 1)]!;
        index += 1;
        sent.push({ method, path, body: typeof request.body === 'string' ? JSON.parse(request.body) : undefined });
        return { statusCode, data, responseOptions: typeof data === 'string' ? { headers: { 'content-type': 'text/html' } } : json };
      })
      .persist();
  };
  const connection = { url: `${origin}/ovirt-engine`, username: 'a@b', password: new Secret('p'), webCaPem: '', internalCaPem: 'CA' };
  const session = new EngineSession(connection, quietLogger().logger, agent);
  const engine = new Engine(session, { attempts: 4, firstDelayMs: 1, longestDelayMs: 5 });
  return { engine, on, sent };
}

const refusal = (status: number, detail: string): Reply => [status, { reason: 'Operation Failed', detail }];
const away: Reply = [503, '<html>Service Unavailable</html>'];

describe('Engine', () => {
  it('reads a VM into our words', async () => {
    const { engine, on } = fixture();
    on('GET', '/vms/V?follow=diskattachments.disk,nics,snapshots,tags', [
      200,
      {
        id: 'V',
        name: 'web',
        status: 'up',
        memory: '4294967296',
        delete_protected: 'true',
        cluster: { id: 'C' },
        custom_compatibility_version: { major: '4', minor: '6' },
        initialization: { configuration: { type: 'ovf', data: '<ovf/>' } },
        disk_attachments: {
          disk_attachment: [
            {
              id: 'D',
              active: 'true',
              bootable: 'true',
              interface: 'virtio_scsi',
              disk: {
                id: 'D',
                alias: 'd1',
                provisioned_size: '1024',
                total_size: '512',
                format: 'cow',
                storage_domains: { storage_domain: [{ id: 'SD' }] },
              },
            },
          ],
        },
        nics: { nic: [{ id: 'N', name: 'nic1', mac: { address: '56:6f:00:00:00:01' }, plugged: 'true' }] },
        snapshots: { snapshot: [{ id: 'S', snapshot_type: 'active', snapshot_status: 'ok' }] },
        tags: {},
      },
    ]);
    const vm = await engine.vms.get('V', { with: ['diskAttachments', 'nics', 'snapshots', 'tags'] });
    expect(vm).toMatchObject({
      id: 'V',
      status: 'up',
      memoryBytes: 4294967296,
      deleteProtected: true,
      clusterId: 'C',
      ovf: '<ovf/>',
      hasIllegalImages: false,
    });
    expect(vm.customCompatibilityVersion).toEqual({ major: 4, minor: 6 });
    expect(vm.diskAttachments?.[0]).toMatchObject({
      diskId: 'D',
      active: true,
      disk: { name: 'd1', provisionedBytes: 1024, totalBytes: 512, storageDomainId: 'SD' },
    });
    expect(vm.nics?.[0]).toMatchObject({ macAddress: '56:6f:00:00:00:01', vnicProfileId: undefined, linked: false });
    expect(vm.tags).toEqual([]);
  });

  it('reads lists page by page until a page is not full', async () => {
    const { engine, on, sent } = fixture();
    on('GET', '/vms?search=sortby name asc page 1&max=2', [200, { vm: [{ id: '1' }, { id: '2' }] }]);
    on('GET', '/vms?search=sortby name asc page 2&max=2', [200, { vm: [{ id: '3' }] }]);
    const ids: string[] = [];
    for await (const rows of engine.vms.pages({ pageSize: 2 })) ids.push(...rows.map((vm) => vm.id));
    expect(ids).toEqual(['1', '2', '3']);
    expect(sent).toHaveLength(2);
  });

  it('repeats reads while the engine is away, and tells a missing entity from that', async () => {
    const { engine, on, sent } = fixture();
    on('GET', '/disks/D', away, [404, '<html>'], [200, { id: 'D' }]);
    await expect(engine.disks.get('D')).resolves.toMatchObject({ id: 'D' });
    expect(sent).toHaveLength(3);
    on('GET', '/disks/X', [404, {}]);
    await expect(engine.disks.find('X')).resolves.toBeUndefined();
    await expect(engine.disks.get('X')).rejects.toMatchObject({ code: 'ENGINE_NOT_FOUND' });
    on('GET', '/disks/Y', away);
    await expect(engine.disks.find('Y')).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE', retry: 'same-request' });
  });

  it('finds what a create whose answer was lost has made, and never makes it twice', async () => {
    const { engine, on, sent } = fixture();
    on('POST', '/disks', away);
    on('GET', '/disks/D', [200, { id: 'D', status: 'locked' }]);
    const disk = {
      id: 'D',
      name: 'd',
      storageDomainId: 'SD',
      provisionedBytes: 1024,
      format: 'cow' as const,
      sparse: true,
      incrementalBackup: true,
    };
    await expect(engine.disks.create(disk)).resolves.toMatchObject({ id: 'D', status: 'locked' });
    const posts = sent.filter((request) => request.method === 'POST');
    expect(posts).toHaveLength(1);
    expect(posts[0]?.body).toEqual({
      id: 'D',
      name: 'd',
      provisioned_size: 1024,
      format: 'cow',
      sparse: true,
      content_type: 'data',
      backup: 'incremental',
      storage_domains: { storage_domain: [{ id: 'SD' }] },
    });
  });

  it('sends a create again when it is certainly not there', async () => {
    const { engine, on, sent } = fixture();
    on('POST', '/vms/V/backups', away, [201, { id: 'B', phase: 'initializing' }]);
    on('GET', '/vms/V/backups/B', [404, {}]);
    await expect(engine.backups.start('V', { id: 'B', description: 'x', diskIds: ['D'] })).resolves.toMatchObject({
      phase: 'initializing',
    });
    expect(sent.filter((request) => request.method === 'POST')).toHaveLength(2);
  });

  it('asks for a backup from a checkpoint, and advises a full one when the engine cannot', async () => {
    const { engine, on, sent } = fixture();
    on(
      'POST',
      '/vms/V/backups?require_consistency=true&legacy=true',
      refusal(400, '[The specified checkpoint C0 does not exist]'),
      refusal(400, '[]'),
      refusal(400, '[Too long description]'),
      refusal(409, '[VM is during a backup operation]'),
    );
    const start = () =>
      engine.backups.start('V', {
        id: 'B',
        description: 'x',
        diskIds: ['D'],
        fromCheckpointId: 'C0',
        requireConsistency: true,
        legacy: true,
      });
    await expect(start()).rejects.toMatchObject({ code: 'ENGINE_CHECKPOINT_UNUSABLE', retry: 'full-backup', meta: { checkpointId: 'C0' } });
    await expect(start()).rejects.toMatchObject({ code: 'ENGINE_CHECKPOINT_UNUSABLE' });
    await expect(start()).rejects.toMatchObject({ code: 'ENGINE_REFUSED' });
    await expect(start()).rejects.toMatchObject({ code: 'ENGINE_CONFLICT' });
    expect(sent[0]?.body).toEqual({ id: 'B', description: 'x', from_checkpoint_id: 'C0', disks: { disk: [{ id: 'D' }] } });
  });

  it.each<[string, Reply[], Reply, string | undefined]>([
    ['is accepted', [[200, { status: 'complete' }]], [404, {}], undefined],
    ['was cleaned up', [[404, {}]], [404, {}], undefined],
    ['is ending already', [refusal(400, '[VM backup is already in phase FINALIZING]')], [200, { id: 'B', phase: 'ready' }], undefined],
    ['has failed', [refusal(400, '[]')], [200, { id: 'B', phase: 'failed' }], undefined],
    ['lost its answer', [away, [200, {}]], [200, { id: 'B', phase: 'ready' }], undefined],
    ['has transfers', [refusal(409, '[There are active image transfers]')], [200, { id: 'B', phase: 'ready' }], 'ENGINE_CONFLICT'],
    ['is refused for another reason', [refusal(400, '[No.]')], [200, { id: 'B', phase: 'ready' }], 'ENGINE_REFUSED'],
  ])('ends a backup that %s', async (_name, finalize, get, code) => {
    const { engine, on } = fixture();
    on('POST', '/vms/V/backups/B/finalize', ...finalize);
    on('GET', '/vms/V/backups/B', get);
    const end = engine.backups.finalize('V', 'B');
    await (code === undefined ? expect(end).resolves.toBeUndefined() : expect(end).rejects.toMatchObject({ code }));
  });

  it('removes a checkpoint that is gone already without an error', async () => {
    const { engine, on } = fixture();
    on('DELETE', '/vms/V/checkpoints/C', refusal(400, '[The specified checkpoint C does not exist]'));
    on('GET', '/vms/V/checkpoints', [200, { checkpoint: [{ id: 'other', state: 'created' }] }]);
    await expect(engine.checkpoints.remove('V', 'C')).resolves.toBe(false);
  });

  it('creates a download with safe defaults and keeps its URLs secret', async () => {
    const { engine, on, sent } = fixture();
    on('POST', '/imagetransfers', [
      201,
      { id: 'T', phase: 'transferring', image: { id: 'D' }, transfer_url: 'https://h:54322/images/ticket-1', transferred: '0' },
    ]);
    const transfer = await engine.transfers.create({ direction: 'download', diskId: 'D', backupId: 'B', format: 'raw' });
    expect(sent[0]?.body).toEqual({
      disk: { id: 'D' },
      backup: { id: 'B' },
      direction: 'download',
      format: 'raw',
      inactivity_timeout: 600,
      timeout_policy: 'cancel',
    });
    expect(transfer.transferUrl?.reveal()).toBe('https://h:54322/images/ticket-1');
    expect(JSON.stringify(transfer)).not.toContain('ticket-1');
  });

  it('does not repeat a transfer whose answer was lost', async () => {
    const { engine, on, sent } = fixture();
    on('POST', '/imagetransfers', away);
    await expect(engine.transfers.create({ direction: 'upload', diskId: 'D' })).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' });
    expect(sent).toHaveLength(1);
  });

  it('never saves memory in a snapshot', async () => {
    const { engine, on, sent } = fixture();
    on('POST', '/vms/V/snapshots', [201, { id: 'S', snapshot_status: 'locked' }]);
    await engine.snapshots.create('V', { description: 'tidemark x', diskIds: ['D'] });
    expect(sent[0]?.body).toEqual({
      description: 'tidemark x',
      persist_memorystate: false,
      disk_attachments: { disk_attachment: [{ disk: { id: 'D' } }] },
    });
  });

  it('takes a VM that stopped by itself as stopped', async () => {
    const { engine, on } = fixture();
    on('POST', '/vms/V/stop', [
      409,
      { status: 'failed', fault: { reason: 'Operation Failed', detail: '[Cannot stop VM. VM is not running.]' } },
    ]);
    on('GET', '/vms/V', [200, { id: 'V', status: 'down' }]);
    await expect(engine.vms.stop('V')).resolves.toBeUndefined();
    on('POST', '/vms/V/start', refusal(409, '[There is no host that satisfies the requirements]'));
    await expect(engine.vms.start('V')).rejects.toMatchObject({ code: 'ENGINE_REFUSED' });
  });

  it('reads events after a position in order, and says when it could not read all', async () => {
    const { engine, on } = fixture();
    on('GET', '/events?from=10&max=2', [
      200,
      {
        event: [
          { index: '12', code: '1', vm: { id: 'V' } },
          { index: '11', code: '2', vm: { name: 'gone' } },
        ],
      },
    ]);
    const { events, complete } = await engine.events.since(10, { max: 2 });
    expect(events.map((event) => event.index)).toEqual([11, 12]);
    expect(events[0]).toMatchObject({ vmId: undefined, vmName: 'gone' });
    expect(complete).toBe(false);
  });

  it('waits out conflicts with a reason, and not for ever', async () => {
    const { engine, on } = fixture();
    on('POST', '/vms/V/diskattachments', refusal(409, '[The following disks are locked: d]'), [201, { id: 'D', disk: { id: 'D' } }]);
    const reasons: string[] = [];
    const add = () => engine.diskAttachments.add('V', { diskId: 'D', interface: 'virtio', bootable: true, active: true });
    const patience = new Patience(new SteadyClock());
    await expect(patience.whileConflict({ deadlineMs: 60_000, waiting: (reason) => reasons.push(reason) }, add)).resolves.toMatchObject({
      diskId: 'D',
    });
    expect(reasons).toEqual(['The following disks are locked: d', '']);
    const { engine: busy, on: onBusy } = fixture();
    onBusy('DELETE', '/disks/D', refusal(409, '[Disk d is locked]'));
    await expect(patience.whileConflict({ deadlineMs: 10 }, () => busy.disks.remove('D'))).rejects.toMatchObject({
      code: 'ENGINE_CONFLICT',
    });
  });

  it('goes on with new credentials for everybody who holds it', async () => {
    const { engine, on } = fixture();
    on('GET', '/disks/D', [200, { id: 'D' }]);
    const second = fixture();
    second.on('GET', '/disks/D', [200, { id: 'D', alias: 'second' }]);
    await engine.disks.get('D');
    const agent = new MockAgent();
    agent.disableNetConnect();
    agent.get(origin).intercept({ path: '/ovirt-engine/sso/oauth/token', method: 'POST' }).reply(200, { access_token: 't2' }, json);
    agent
      .get(origin)
      .intercept({ path: '/ovirt-engine/api/disks/D', method: 'GET', headers: { authorization: 'Bearer t2' } })
      .reply(200, { id: 'D', alias: 'again' }, json);
    const connection = { url: `${origin}/ovirt-engine`, username: 'a@b', password: new Secret('p2'), webCaPem: '', internalCaPem: 'CA' };
    await engine.reconnect(new EngineSession(connection, quietLogger().logger, agent));
    await expect(engine.disks.get('D')).resolves.toMatchObject({ name: 'again' });
  });
});
