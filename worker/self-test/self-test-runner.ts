import { toTidemarkError } from '../../common/errors/common-errors';
import type { Logger } from '../../common/log/logger';
import { timestampToWire } from '../../common/rpc/bytes';
import type { RunSelfTest__Output } from '../../proto/gen/tidemark/worker/v1/RunSelfTest';
import type { SelfTestReport } from '../../proto/gen/tidemark/worker/v1/SelfTestReport';
import { cellToWire, verdictToWire, worstOf } from './cell';
import { runSelfTest } from './run-self-test';
import type { SelfTestMachine } from './run-self-test';

/** Reports that can be answered again; a stream breaks seldom, and tests are few. */
const keptReports = 4;

/** Runs self-tests as they are asked for. One of a known id is not run again: while it runs nothing happens, then its report is sent again. */
export class SelfTestRunner {
  onReport: (report: SelfTestReport) => void = () => undefined;
  private readonly aborter = new AbortController();
  private readonly running = new Set<string>();
  private readonly reports = new Map<string, SelfTestReport>();

  constructor(
    private readonly machine: SelfTestMachine,
    private readonly logger: Logger,
  ) {}

  start(request: RunSelfTest__Output): void {
    void this.run(request);
  }

  /** Ends those that run, without a report. */
  stop(): void {
    this.aborter.abort();
  }

  private async run(request: RunSelfTest__Output): Promise<void> {
    const receivedAt = new Date(this.machine.now());
    const { testId } = request;
    const known = this.reports.get(testId);
    if (known) return this.onReport(known);
    if (this.running.has(testId)) return;
    this.running.add(testId);
    try {
      const cells = await runSelfTest(request, receivedAt, this.machine, this.aborter.signal);
      if (this.aborter.signal.aborted) return;
      const secrets = request.targets.map((target) => target.dataPath?.ticket ?? '').filter((ticket) => ticket !== '');
      const verdict = worstOf(cells);
      const wrong = cells.filter((cell) => cell.code !== '').map(({ check, target, code }) => ({ check, target, code }));
      this.logger.info('self-test', { testId, verdict, cells: cells.length, wrong });
      const report = {
        testId,
        result: {
          testedAt: timestampToWire(receivedAt),
          verdict: verdictToWire(verdict),
          cells: cells.map((cell) => cellToWire(cell, secrets)),
        },
      };
      this.reports.set(testId, report);
      for (const old of [...this.reports.keys()].slice(0, -keptReports)) this.reports.delete(old);
      this.onReport(report);
    } catch (error) {
      // No report: the plug-in's wait ends with its deadline. This is a defect of ours, since a finding is a cell.
      this.logger.error('self-test failed', { testId, error: toTidemarkError(error, 'the self-test') });
    } finally {
      this.running.delete(testId);
    }
  }
}
