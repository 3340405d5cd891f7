/**
 * The self-test of a worker: a matrix of cells, one for each thing that a backup needs and this machine must reach, each with what was seen and, when it is
 * not as it should be, what to open or fix. This folder owns looking and judging; it moves no data but the throughput sample, and changes
 * nothing. Targets come from the plug-in; codes and their meaning are in docs/operations/worker-self-test.md.
 */
import { redactText } from '../../common/log/redact';
import { durationToWire } from '../../common/rpc/bytes';
import type { SelfTestCell } from '../../proto/gen/tidemark/common/v1/SelfTestCell';
import type { SelfTestCheck } from '../../proto/gen/tidemark/common/v1/SelfTestCheck';
import type { SelfTestVerdict } from '../../proto/gen/tidemark/common/v1/SelfTestVerdict';

export type Verdict = 'passed' | 'warning' | 'failed' | 'info';
export type Check = 'clock' | 'dns' | 'engine' | 'host' | 'proxy' | 'mover' | 'throughput' | 'resources';

/** Why a cell is not as it should be. Stable: programs and people look for them. */
export type CellCode =
  | 'CLOCK_SKEW'
  | 'NAME_NOT_RESOLVED'
  | 'DNS_SILENT'
  | 'CONNECTION_TIMED_OUT'
  | 'CONNECTION_REFUSED'
  | 'CONNECTION_CLOSED'
  | 'NO_ROUTE'
  | 'CONNECTION_FAILED'
  | 'TLS_TIMED_OUT'
  | 'TLS_FAILED'
  | 'CERTIFICATE_REFUSED'
  | 'CERTIFICATE_NAME_DIFFERS'
  | 'CERTIFICATE_EXPIRED'
  | 'CERTIFICATE_NOT_YET_VALID'
  | 'CERTIFICATE_ENDS_SOON'
  | 'OWN_CERTIFICATE_REFUSED'
  | 'ROLE_REFUSED'
  | 'MOVER_REFUSED'
  | 'MOVER_BUSY'
  | 'MOVER_NOT_MEASURABLE'
  | 'THROUGHPUT_LOW'
  | 'MEMORY_LOW'
  | 'SCRATCH_FULL'
  | 'TARGET_UNKNOWN'
  | 'NOT_TESTED';

/** One line of the matrix. */
export interface Cell {
  readonly check: Check;
  /** host:port, name, or empty where there is only one. */
  readonly target: string;
  readonly targetName: string;
  readonly verdict: Verdict;
  readonly detail: string;
  readonly advice: string;
  /** Empty when nothing is wrong. */
  readonly code: CellCode | '';
  readonly latencyMs?: number;
  readonly bytesPerSecond?: number;
  readonly localAddress?: string;
}

const checks: Record<Check, SelfTestCheck> = {
  clock: 'SELF_TEST_CHECK_CLOCK',
  dns: 'SELF_TEST_CHECK_DNS',
  engine: 'SELF_TEST_CHECK_ENGINE',
  host: 'SELF_TEST_CHECK_HOST',
  proxy: 'SELF_TEST_CHECK_PROXY',
  mover: 'SELF_TEST_CHECK_MOVER',
  throughput: 'SELF_TEST_CHECK_THROUGHPUT',
  resources: 'SELF_TEST_CHECK_RESOURCES',
};
const verdicts: Record<Verdict, SelfTestVerdict> = {
  passed: 'SELF_TEST_VERDICT_PASSED',
  warning: 'SELF_TEST_VERDICT_WARNING',
  failed: 'SELF_TEST_VERDICT_FAILED',
  info: 'SELF_TEST_VERDICT_INFO',
};

export function checkFromWire(check: SelfTestCheck): Check | undefined {
  return (Object.keys(checks) as Check[]).find((name) => checks[name] === check);
}

/** The worst of all; what is only told counts as passed. */
export function worstOf(cells: readonly Cell[]): 'passed' | 'warning' | 'failed' {
  if (cells.some((cell) => cell.verdict === 'failed')) return 'failed';
  return cells.some((cell) => cell.verdict === 'warning') ? 'warning' : 'passed';
}

export function verdictToWire(verdict: Verdict): SelfTestVerdict {
  return verdicts[verdict];
}

/** For the report. None of `secrets` leaves with it, whatever a peer said. */
export function cellToWire(cell: Cell, secrets: readonly string[]): SelfTestCell {
  const clean = (text: string) => secrets.reduce((clear, secret) => clear.replaceAll(secret, '…'), redactText(text));
  return {
    check: checks[cell.check],
    target: cell.target,
    targetName: cell.targetName,
    verdict: verdicts[cell.verdict],
    detail: clean(cell.detail),
    advice: clean(cell.advice),
    code: cell.code,
    ...(cell.latencyMs === undefined ? {} : { latency: durationToWire(cell.latencyMs) }),
    bytesPerSecond: String(Math.round(cell.bytesPerSecond ?? 0)),
    localAddress: cell.localAddress ?? '',
  };
}
