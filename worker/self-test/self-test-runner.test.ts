import os from 'node:os';
import { timestampToWire } from '../../common/rpc/bytes';
import { loggerTo } from '../../common/log/logger';
import type { RunSelfTest__Output } from '../../proto/gen/tidemark/worker/v1/RunSelfTest';
import type { SelfTestReport } from '../../proto/gen/tidemark/worker/v1/SelfTestReport';
import { MoverDouble } from '../testing/mover-double';
import { systemNames } from './names';
import { SelfTestRunner } from './self-test-runner';

let mover: MoverDouble;
let runner: SelfTestRunner;
let clockMs: number;
const reports: SelfTestReport[] = [];
const logged: string[] = [];

beforeEach(async () => {
  mover = await MoverDouble.start();
  const { identity } = await mover.address();
  clockMs = Date.now();
  reports.length = logged.length = 0;
  runner = new SelfTestRunner(
    {
      pluginEndpoint: '127.0.0.1:1',
      dataFolder: os.tmpdir(),
      taskSlots: 1,
      identity: () => identity,
      names: systemNames,
      now: () => clockMs,
    },
    loggerTo((_level, text, fields) => logged.push(`${text} ${JSON.stringify(fields)}`)),
  );
});
afterEach(async () => {
  runner.stop();
  await mover.stop();
});

async function request(testId: string): Promise<RunSelfTest__Output> {
  const { endpoints } = await mover.address();
  const target = { caPem: '', name: '', dataPath: null };
  const dataPath = { endpoints, serverName: '', ticket: 'very.secret', sessionId: '', repositoryId: '', expiresAt: null };
  return {
    testId,
    sentAt: timestampToWire(new Date(clockMs - 20_000)),
    targets: [
      { ...target, check: 'SELF_TEST_CHECK_ENGINE', endpoint: '127.0.0.1:1', name: 'engine' },
      { ...target, check: 'SELF_TEST_CHECK_PROXY', endpoint: '127.0.0.1:1', name: 'engine' },
      { ...target, check: 'SELF_TEST_CHECK_MOVER', endpoint: endpoints[0], name: 'repository 1', dataPath },
      { ...target, check: 'SELF_TEST_CHECK_HOST', endpoint: 'no endpoint at all', name: 'host 7' },
      { ...target, check: 'SELF_TEST_CHECK_OF_TOMORROW', endpoint: '127.0.0.1:1' },
    ],
  } as unknown as RunSelfTest__Output;
}

function reported(count: number): Promise<SelfTestReport> {
  return new Promise((resolve) => {
    runner.onReport = (report) => {
      reports.push(report);
      if (reports.length === count) resolve(report);
    };
  });
}

describe('a self-test', () => {
  it('answers one matrix: the worst of its cells, everything in order, no secret', async () => {
    const report = reported(1);
    runner.start(await request('t1'));
    const { testId, result } = await report;
    expect(testId).toBe('t1');
    expect(result?.verdict).toBe('SELF_TEST_VERDICT_FAILED');
    expect(result?.cells?.map((cell) => [cell.check, cell.verdict, cell.code])).toEqual([
      ['SELF_TEST_CHECK_CLOCK', 'SELF_TEST_VERDICT_WARNING', 'CLOCK_SKEW'],
      ['SELF_TEST_CHECK_DNS', 'SELF_TEST_VERDICT_PASSED', ''],
      ['SELF_TEST_CHECK_ENGINE', 'SELF_TEST_VERDICT_FAILED', 'CONNECTION_REFUSED'],
      ['SELF_TEST_CHECK_PROXY', 'SELF_TEST_VERDICT_INFO', 'CONNECTION_REFUSED'],
      ['SELF_TEST_CHECK_MOVER', 'SELF_TEST_VERDICT_PASSED', ''],
      ['SELF_TEST_CHECK_HOST', 'SELF_TEST_VERDICT_WARNING', 'TARGET_UNKNOWN'],
      ['SELF_TEST_CHECK_ENGINE', 'SELF_TEST_VERDICT_WARNING', 'TARGET_UNKNOWN'],
      // How fast a loaded machine is, is not this test's business.
      ['SELF_TEST_CHECK_THROUGHPUT', expect.stringMatching(/_(PASSED|WARNING)$/), expect.stringMatching(/^(THROUGHPUT_LOW)?$/)],
      ['SELF_TEST_CHECK_RESOURCES', 'SELF_TEST_VERDICT_PASSED', ''],
      ['SELF_TEST_CHECK_RESOURCES', 'SELF_TEST_VERDICT_PASSED', ''],
    ]);
    expect(JSON.stringify([report, result, logged])).not.toContain('very.secret');
  });

  it('of a known id is not run again, but answered again', async () => {
    const twice = reported(2);
    const order = await request('t2');
    runner.start(order);
    runner.start(order);
    while (reports.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    runner.start(order);
    await twice;
    expect(reports[1]).toBe(reports[0]);
    expect(mover.probedBytes).toBe(64 * 1024 * 1024);
  });

  it('ends without a report when the worker stops', async () => {
    runner.onReport = (report) => reports.push(report);
    runner.start(await request('t3'));
    runner.stop();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(reports).toEqual([]);
  });
});
