import type { Worker__Output } from '../../proto/gen/tidemark/plugin/v1/Worker';
import { loggerTo } from '../../common/log/logger';
import type { KnownWorker } from './fleet';
import { MoverReach } from './mover-reach';

const worker = (place: { platformId?: string; clusterId?: string; state?: string }, verdicts: Readonly<Record<string, string>>) =>
  ({
    ...{ platformId: '', clusterId: '', state: 'connected', ...place },
    selfTest: {
      cells: Object.entries(verdicts).map(([target, verdict]) => ({
        check: 'SELF_TEST_CHECK_MOVER',
        target,
        verdict: `SELF_TEST_VERDICT_${verdict}`,
      })),
    },
  }) as unknown as Worker__Output;

const inCluster = { platformId: 'p', clusterId: 'c' };

async function judge(workers: readonly Worker__Output[], ...endpoints: string[]) {
  const fleet = { list: async () => workers.map((one): KnownWorker => ({ pluginId: 'x', worker: one })) };
  const reach = new MoverReach(
    fleet,
    loggerTo(() => undefined),
    () => new Date(0),
  );
  return (await reach.of('p', 'c'))(endpoints);
}

describe('which movers workers reach', () => {
  it('is what the workers of the cluster found', async () => {
    const workers = [worker(inCluster, { 'a:1': 'PASSED', 'b:1': 'FAILED', 'w:1': 'WARNING' }), worker({}, { 'b:1': 'PASSED' })];
    expect(await judge(workers, 'a:1')).toBe('reached');
    expect(await judge(workers, 'w:1')).toBe('reached');
    expect(await judge(workers, 'b:1')).toBe('unreached');
    expect(await judge(workers, 'other:1')).toBe('unknown');
    expect(await judge(workers, 'b:1', 'a:1')).toBe('reached');
  });

  it('is what the one beside the server found where the cluster has none', async () => {
    const beside = worker({}, { 'a:1': 'PASSED' });
    expect(await judge([beside, worker({ platformId: 'p', clusterId: 'other' }, { 'a:1': 'FAILED' })], 'a:1')).toBe('reached');
    expect(await judge([beside, worker({ ...inCluster, state: 'lost' }, { 'a:1': 'FAILED' })], 'a:1')).toBe('reached');
  });

  it('is unknown while plug-ins cannot be asked, and they are not asked at each session', async () => {
    let asked = 0;
    let at = 0;
    const list = () => {
      asked += 1;
      return Promise.reject(new Error('away'));
    };
    const reach = new MoverReach(
      { list },
      loggerTo(() => undefined),
      () => new Date(at),
    );
    for (at of [0, 1000, 14_000]) expect((await reach.of('p', 'c'))(['a:1'])).toBe('unknown');
    expect(asked).toBe(1);
    at = 16_000;
    await reach.of('p', 'c');
    expect(asked).toBe(2);
  });
});
