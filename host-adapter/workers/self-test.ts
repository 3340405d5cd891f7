/** The self-test's matrix in words. Pure. */
import type { SelfTestCell__Output } from '../../proto/gen/tidemark/common/v1/SelfTestCell';

export const verdicts = ['passed', 'info', 'warning', 'failed', 'unknown'] as const;
export type Verdict = (typeof verdicts)[number];

export const checks = ['clock', 'dns', 'engine', 'host', 'proxy', 'mover', 'throughput', 'resources', 'unknown'] as const;
export type Check = (typeof checks)[number];

export function verdictOf(wire: string): Verdict {
  return verdicts.find((verdict) => wire === `SELF_TEST_VERDICT_${verdict.toUpperCase()}`) ?? 'unknown';
}

export function checkOf(wire: string): Check {
  return checks.find((check) => wire === `SELF_TEST_CHECK_${check.toUpperCase()}`) ?? 'unknown';
}

/** e.g. "host east-1 (10.0.0.5:54322): no answer within 5 s. Open TCP port 54322 …". */
export function describeCell(cell: SelfTestCell__Output): string {
  const named = cell.targetName !== '' && cell.targetName !== cell.target;
  const target = named
    ? ` ${cell.targetName}${cell.target === '' ? '' : ` (${cell.target})`}`
    : cell.target === ''
      ? ''
      : ` ${cell.target}`;
  return [`${checkOf(cell.check)}${target}: ${cell.detail.replace(/\.$/, '')}.`, cell.advice].filter((part) => part !== '').join(' ');
}
