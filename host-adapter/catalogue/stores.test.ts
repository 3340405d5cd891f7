import { openCatalogue } from './catalogue';
import type { Database } from './catalogue';
import { EventStore } from './event-store';
import { IdentityStore } from './identity-store';
import { JobStore } from './job-store';
import type { StoredJob } from './job-store';
import { ProcessStore } from './process-store';
import { SessionStore } from './session-store';
import { newSession, taskOf } from '../jobs/session-beginning';
import { PluginRegistry } from '../registry/plugin-registry';

const job = (id: string, name: string): StoredJob => ({
  id,
  name,
  repositoryId: 'r',
  enabled: true,
  definition: {} as StoredJob['definition'],
  createdAt: '2030-01-01T00:00:00.000Z',
  scheduledAt: '2030-01-01T00:00:00.000Z',
});

describe('two writers at once', () => {
  let db: Database;
  beforeEach(async () => {
    db = await openCatalogue(':memory:');
    await db.insertInto('repository').values({ id: 'r', name: 'main', location: '/', moverId: 'm', lastKnownJson: '{}' }).execute();
  });
  afterEach(() => db.destroy());

  it('change a job without undoing what the other did', async () => {
    const jobs = new JobStore(db);
    await jobs.add(job('j', 'nightly'));
    await Promise.all([
      jobs.change('j', (known) => ({ ...known, name: 'weekly' })),
      jobs.setScheduledAt('j', '2030-01-02T00:00:00.000Z'),
      jobs.change('j', (known) => ({ ...known, enabled: false })),
    ]);
    expect(await jobs.find('j')).toMatchObject({ name: 'weekly', enabled: false, scheduledAt: '2030-01-02T00:00:00.000Z' });
  });

  it('make one job of a name, and change none that is gone', async () => {
    const jobs = new JobStore(db);
    const ends = await Promise.allSettled([jobs.add(job('a', 'nightly')), jobs.add(job('b', 'nightly'))]);
    expect(ends).toMatchObject([{ status: 'fulfilled' }, { status: 'rejected', reason: { code: 'NAME_TAKEN' } }]);
    await expect(jobs.change('c', (known) => known)).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' });
    await jobs.add(job('d', 'other'));
    await expect(jobs.change('d', (known) => ({ ...known, name: 'nightly' }))).rejects.toMatchObject({ code: 'NAME_TAKEN' });
  });

  it('keep each event of a plug-in once, also while a stream of before is still read', async () => {
    const identity = { role: 'plugin', enrolledThrough: null, instanceId: 'i', hostName: 'h', version: '1', addressesJson: '[]' };
    const at = new Date();
    await db
      .insertInto('identity')
      .values({ ...identity, id: 'p', enrolledAt: at.toISOString(), enabled: 1, revokedAt: null, enrolsAtStart: 0 })
      .execute();
    const events = new EventStore(db);
    const registry = new PluginRegistry(new IdentityStore(db), new ProcessStore(db), events, () => at, 10_000);
    const endpoints = { endpoint: 'a:1', workerEndpoint: 'a:2', workerEnrolmentEndpoint: 'a:3' };
    const process = { instanceId: 'i', bootId: 'b', protocols: ['tidemark.plugin.v1'], capabilities: [], hostName: 'h', version: '1' };
    const { leaseId } = await registry.register('p', { process, pluginId: 'fake', ...endpoints });
    const sent = [1, 2, 3].map((sequence) => ({
      sequence: String(sequence),
      occurredAt: null,
      severity: 'EVENT_SEVERITY_INFO',
      code: `EVENT_${sequence}`,
      message: '',
      references: {},
    })) as never[];
    const ends = await Promise.all([registry.takeEvents('p', leaseId, sent.slice(0, 2)), registry.takeEvents('p', leaseId, sent)]);
    expect(ends).toEqual([2, 3]);
    const kept = (await events.events(10, undefined, undefined)).map(({ code }) => code);
    expect(kept.sort()).toEqual(['EVENT_1', 'EVENT_2', 'EVENT_3']);
  });
});

describe('old sessions', () => {
  it('are forgotten with their tasks, the oldest first, and none that has not ended', async () => {
    const db = await openCatalogue(':memory:');
    const store = new SessionStore(db);
    const made = [2027, 2026, 2028, 2029].map((year) => {
      const at = { jobId: null, jobName: '', repositoryId: 'r', repositoryName: 'main' };
      const session = newSession({ kind: 'collect', dryRun: false, bytesPerSecond: 0 }, at, 'user', new Date(`${year}-06-01T00:00:00Z`));
      if (year !== 2028) session.endedAt = session.startedAt;
      return session;
    });
    for (const session of made)
      await store.add(session, [taskOf(session, { platformId: '', vmId: '', vmName: '', clusterId: undefined }, 0, null)]);
    const kept = async () => (await store.list(10, undefined, {})).map(({ startedAt }) => startedAt.slice(0, 4));
    await store.trim(new Date('2029-01-01T00:00:00Z'), 1);
    expect(await kept()).toEqual(['2029', '2028', '2027']);
    await store.trim(new Date('2029-01-01T00:00:00Z'), 10);
    expect(await kept()).toEqual(['2029', '2028']);
    expect(await db.selectFrom('task').select('sessionId').execute()).toHaveLength(2);
    await db.destroy();
  });
});
