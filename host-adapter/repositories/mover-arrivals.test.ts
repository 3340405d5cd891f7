/** A mover that comes, and what has to be made up for then: the REST API over fake movers. */
import type { FakeMover } from '../testing/fake-mover';
import { moverError } from '../testing/fake-repository';
import { until } from '../testing/fake-process';
import { TestInstallation } from '../testing/test-installation';

const loadMs = 120_000;

describe('points of a mover that comes', () => {
  let at: TestInstallation;
  let mover: FakeMover;

  beforeAll(async () => {
    at = new TestInstallation();
    await at.start();
    await at.login();
    ({ mover } = await at.furnish());
  });
  afterAll(async () => {
    await mover.stop();
    await at.remove();
  });

  const listed = async () => ((await at.api('GET', '/points')).body as { items: { id: string }[] }).items.map(({ id }) => id);
  /** What only the repository knows. */
  const addElsewhere = (pointId: string) => {
    const [known] = mover.points;
    if (!known) throw new Error('no point yet');
    mover.points.push({ ...known, point: { ...known.point, pointId } });
  };
  const back = async () => {
    const { control } = at.endpoints;
    mover = mover.reborn(true);
    return () => mover.start(() => control);
  };

  it('are read until it answers, also by a server that starts while the mover keeps its lease', async () => {
    const { id } = (await at.api('POST', '/jobs/nightly/run', {})).body as { id: string };
    expect(await at.ended(id)).toMatchObject({ state: 'success' });
    addElsewhere('while-the-server-was-away');
    let refusals = 3;
    mover.onList = async (when) => {
      if (when === 'before' && refusals-- > 0) throw moverError('REPOSITORY_LOCKED', 'UNAVAILABLE');
    };
    await at.kill();
    await at.start();
    await until(async () => (await listed()).includes('while-the-server-was-away'), loadMs);
    expect(refusals).toBeLessThan(1);

    // Lost, and back with a point of somebody else.
    await at.lose(mover);
    await until(async () => (await at.api('GET', `/movers/${mover.id}`)).body.state === 'lost', loadMs);
    addElsewhere('while-it-was-away');
    const start = await back();
    refusals = 3;
    mover.onList = async (when) => {
      if (when === 'before' && refusals-- > 0) throw moverError('REPOSITORY_LOCKED', 'UNAVAILABLE');
    };
    await start();
    await until(async () => (await listed()).includes('while-it-was-away'), loadMs);
  });

  it('that are made while they are listed stay', async () => {
    let release = () => {};
    let reading = 0;
    const held = new Promise<void>((resolve) => (release = resolve));
    mover.onList = async (when) => {
      if (when === 'before') return;
      reading += 1;
      // Only the first: a backup lists points too.
      if (reading === 1) await held;
    };
    const before = await listed();
    const refreshed = at.api('GET', '/points?refresh=true');
    await until(() => reading > 0, loadMs);
    const { id } = (await at.api('POST', '/jobs/nightly/run', {})).body as { id: string };
    const session = (await at.ended(id)) as { tasks: { pointId: string }[] };
    const [made] = session.tasks;
    expect(await listed()).toContain(made?.pointId);
    release();
    expect((await refreshed).status).toBe(200);
    expect((await listed()).sort()).toEqual([...before, ...session.tasks.map(({ pointId }) => pointId)].sort());
  });
});
