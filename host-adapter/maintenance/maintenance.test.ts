/** Maintenance as the REST API shows it, over a fake mover. */
import { Secret } from '../../common/log/redact';
import { openEnvelope } from '../configuration/envelope';
import { decodeSnapshot } from '../configuration/snapshot';
import { loginWithCli, runCliIn } from '../testing/cli-user';
import { until } from '../testing/fake-process';
import type { FakeMover } from '../testing/fake-mover';
import { TestInstallation } from '../testing/test-installation';

interface Check {
  readonly check: string;
  readonly passed: boolean;
}

describe('maintenance', () => {
  const at = new TestInstallation();
  let mover: FakeMover;
  let pointId: string;
  beforeAll(async () => {
    await at.start();
    await at.login();
    const furnished = await at.furnish();
    mover = furnished.mover;
    const run = await at.api('POST', `/jobs/${furnished.jobId}/run`, {});
    await at.ended((run.body as { id: string }).id);
    pointId = ((await at.api('GET', '/points')).body as { items: { id: string }[] }).items[0]?.id ?? '';
  });
  afterAll(() => at.remove());

  const show = async () =>
    (await at.api('GET', '/repositories/main')).body as Record<string, never> & {
      care: Record<string, { doneAt: string | null; failure: { code: string } | null }>;
    };
  const events = async (code: string) =>
    ((await at.api('GET', '/events')).body as { items: { code: string }[] }).items.filter((event) => event.code === code);
  const doctor = async () => ((await at.api('GET', '/doctor')).body as { checks: Check[] }).checks;

  it('copies the configuration into a new repository by itself, sealed', async () => {
    await until(async () => (await show()).care['copy']?.doneAt ?? undefined);
    const [[name = '', sealed] = []] = mover.maintenance.documents;
    expect(name).toMatch(/^configuration\/\d{8}t\d{9}z-/);
    expect(sealed?.includes('nightly')).toBe(false);
    const { body } = await at.api('POST', '/config/key/show-once');
    const { content } = openEnvelope(sealed as Buffer, name, new Secret((body as { recoveryKey: string }).recoveryKey));
    const { tables, files } = decodeSnapshot(content, name);
    expect(tables['repository']).toMatchObject([{ name: 'main' }]);
    expect(files.map((file) => file.path)).toEqual(
      expect.arrayContaining(['identity/authority.json', 'identity/identity.json', 'instance-id']),
    );
    expect(await at.api('POST', '/config/key/show-once')).toMatchObject({ status: 409, body: { code: 'CONFIGURATION_KEY_SHOWN' } });
    expect((await at.api('GET', '/config/key')).body).toMatchObject({ wasShown: true });
  });

  it('keeps the last fourteen copies', async () => {
    for (let i = 0; i < 16; i++)
      expect(await at.api('POST', '/config/copies', {})).toMatchObject({ status: 200, body: { items: [{ failure: null }] } });
    expect(mover.maintenance.documents.size).toBe(14);
    mover.maintenance.documents.set('configuration/20200101t000000000z-another', Buffer.from('of another server'));
    await at.api('POST', '/config/copies', { repository: 'main' });
    expect(mover.maintenance.documents.size).toBe(15);
  });

  it('says everywhere that a copy failed', async () => {
    const passed = async () => (await doctor()).find(({ check }) => check === 'configuration: copy in main')?.passed;
    expect(await passed()).toBe(true);
    mover.maintenance.full = true;
    expect((await at.api('POST', '/config/copies', {})).body).toMatchObject({
      items: [{ name: null, failure: { code: 'REPOSITORY_FULL' } }],
    });
    mover.maintenance.full = false;
    expect((await show()).care['copy']?.failure?.code).toBe('REPOSITORY_FULL');
    expect(await events('CONFIGURATION_NOT_COPIED')).toHaveLength(1);
    expect(await passed()).toBe(false);
    await at.api('POST', '/config/copies', {});
    expect(await passed()).toBe(true);
  });

  it('collects as a session, with what came of it', async () => {
    const { status, body } = await at.api('POST', '/repositories/main/collect', { bytesPerSecond: 1000 });
    expect([status, body]).toMatchObject([202, { kind: 'collect', subject: 'main' }]);
    const ended = (await at.ended((body as { id: string }).id)) as { state: string; tasks: object[] };
    expect(ended).toMatchObject({
      state: 'success',
      tasks: [{ collection: { step: 'done', result: { deletedPacks: 2, deletedBytes: 4096, neededBytes: 8000, deletedAfter: null } } }],
    });
    expect(mover.maintenance.collections.at(-1)).toMatchObject({ dryRun: false, bytesPerSecond: '1000', grace: null });
    const doneAt = await until(async () => (await show()).care['collect']?.doneAt ?? undefined);
    // The mover knows of none that condemned something.
    expect((await show())['lastCollectedAt']).toBe(doneAt);
    expect((await at.api('POST', '/repositories/main/collect/undo')).body).toEqual({ restoredPacks: 3, restoredBytes: 300 });
  });

  it('collects with a grace time of its own', async () => {
    await loginWithCli(at);
    const collect = (...how: string[]) => runCliIn(at.folder, ['repository', 'collect', 'main', ...how]);
    expect(await collect('--grace', '10m')).toMatchObject({ code: 0 });
    expect(mover.maintenance.collections.at(-1)).toMatchObject({ dryRun: false, grace: { seconds: '600' } });
    expect(await at.api('POST', '/repositories/main/collect', { graceMs: 59_999 })).toMatchObject({
      status: 400,
      body: { code: 'ARGUMENT_INVALID', field: 'graceMs', message: expect.stringContaining('less than a minute') as string },
    });
    expect(await collect('--grace', 'soon')).toMatchObject({ code: 2, err: expect.stringContaining('--grace') as string });
    expect(await collect('--grace', '10m', '--undo')).toMatchObject({ code: 2, err: expect.stringContaining('--undo') as string });
  });

  it('waits while another mover maintains, runs once at a time, and can be stopped', async () => {
    let finish = () => {};
    mover.maintenance.atWork = new Promise((resolve) => (finish = resolve));
    mover.maintenance.refusal = 'MAINTENANCE_BUSY';
    const { id } = (await at.api('POST', '/repositories/main/collect', { dryRun: true })).body as { id: string };
    await until(
      async () =>
        ((await at.api('GET', `/sessions/${id}`)).body as { tasks: { collection: { step: string } | null }[] }).tasks[0]?.collection
          ?.step === 'marking',
    );
    expect(await at.api('POST', '/repositories/main/collect', {})).toMatchObject({ status: 409, body: { code: 'MAINTENANCE_RUNNING' } });
    await at.api('POST', `/sessions/${id}/stop`);
    await until(() => mover.maintenance.cancelled);
    finish();
    expect(await at.ended(id)).toMatchObject({ state: 'cancelled' });
  });

  it('verifies with a rate and a period, and says everywhere that damage was found', async () => {
    const [{ diskId = '', name: diskName = '' } = {}] = mover.points.find(({ point }) => point.pointId === pointId)?.point.disks ?? [];
    const hurt = { pointId, diskId, offsetBytes: 1_048_576, objectName: 'packs/x' };
    mover.verifyFindings = [{ code: 'BLOCK_CORRUPT', message: 'a block is damaged', ...hurt }];
    const { id } = (await at.api('POST', '/repositories/main/verify', { bytesPerSecond: 50_000_000, periodDays: 30 })).body as {
      id: string;
    };
    const { vmId, vmName, pointInTime } = (await at.api('GET', `/points/${pointId}`)).body as Record<string, string>;
    expect([vmName, diskName]).not.toContain('');
    const told = `Verification found 1 damaged objects: VM ${vmName} (disk ${diskName}; 1 point).`;
    const ended = await at.ended(id);
    expect(ended).toMatchObject({
      state: 'failed',
      tasks: [
        {
          failure: { code: 'VERIFY_FOUND_DAMAGE', message: expect.stringContaining(told) as string },
          findings: [{ ...hurt, vmId, vmName, diskName, pointInTime }],
        },
      ],
    });
    await loginWithCli(at);
    const shown = (await runCliIn(at.folder, ['session', 'show', id])).out;
    expect(shown).toMatch(new RegExp(`BLOCK_CORRUPT +${vmName} +${diskName} +${pointId} .* 1048576 +packs/x +a block is damaged`));
    mover.verifyFindings = [];
    await until(async () => (await show()).care['verify']?.failure ?? undefined);
    expect((await show()).care['verify']?.doneAt).not.toBeNull();
    expect(await events('VERIFICATION_FAILED')).toMatchObject([{ message: expect.stringContaining(told) as string }]);
    expect((await doctor()).find(({ check }) => check === 'repository main: verification')).toMatchObject({ passed: false });
    const again = (await at.api('POST', '/repositories/main/verify')).body as { id: string };
    expect(await at.ended(again.id)).toMatchObject({ state: 'success' });
    await until(async () => (await show()).care['verify']?.failure === null);
  });

  it('holds, removes and brings back points; what is removed is not imported', async () => {
    const count = mover.points.length;
    expect((await at.api('POST', `/points/${pointId}/hold`)).body).toMatchObject({ heldAt: expect.any(String) as string });
    expect(await at.api('POST', `/points/${pointId}/remove`)).toMatchObject({ status: 409, body: { code: 'POINT_HELD' } });
    expect((await at.api('POST', '/repositories/main/import')).body).toMatchObject({ pointCount: count, removedCount: 0 });
    expect((await at.api('GET', `/points/${pointId}`)).body).toMatchObject({ heldAt: expect.any(String) as string });
    expect((await at.api('POST', `/points/${pointId}/release`)).body).toMatchObject({ heldAt: null });
    expect((await at.api('POST', `/points/${pointId}/remove`)).status).toBe(200);
    expect((await at.api('GET', `/points/${pointId}`)).status).toBe(404);
    expect((await at.api('GET', '/removed-points')).body).toMatchObject({
      items: [{ point: { id: pointId, repositoryName: 'main' }, deletedAfter: null }],
    });
    expect((await at.api('POST', '/repositories/main/import')).body).toEqual({ pointCount: count - 1, damagedCount: 0, removedCount: 1 });
    expect((await at.api('POST', `/points/${pointId}/undo-remove`, {})).body).toMatchObject({ id: pointId });
    expect((await at.api('GET', `/points/${pointId}`)).status).toBe(200);
    expect((await at.api('GET', '/removed-points')).body).toEqual({ items: [] });
  });

  it('refuses schedules that cannot be read', async () => {
    expect(await at.api('PATCH', '/config', { collectSchedule: 'soon' })).toMatchObject({
      status: 400,
      body: { code: 'SCHEDULE_INVALID' },
    });
  });
});
