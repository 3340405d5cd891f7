import type { Care, RepositoryCare } from '../catalogue/care-store';
import { dueNow } from './due';

const never: Care = { doneAt: null, triedAt: null, failure: null };
const failure = { code: 'REPOSITORY_FULL', message: 'full', retry: 'after-operator' as const };
// Every hour, so that the time zone of the machine does not matter.
const settings = { configurationCopySchedule: '30 * * * *', collectSchedule: '30 * * * *', verifyPeriodDays: 30 };
const now = new Date('2026-11-21T12:00:00Z');
const at = (text: string): Care => ({ doneAt: text, triedAt: text, failure: null });
const recent = at('2026-11-21T11:50:00.000Z');
const care = (change: Partial<RepositoryCare>): RepositoryCare => ({ copy: recent, collect: recent, verify: recent, ...change });

test.each<[string, RepositoryCare, string[], string[]]>([
  ['a new repository', { copy: never, collect: never, verify: never }, ['copy'], ['collect', 'verify']],
  ['all done lately', care({}), [], []],
  ['a night later', care({ copy: at('2026-11-21T11:00:00.000Z'), collect: at('2026-11-21T11:00:00.000Z') }), ['copy', 'collect'], []],
  ['a copy that failed just now', care({ copy: { ...recent, failure } }), [], []],
  ['a copy that failed an hour ago', care({ copy: { doneAt: null, triedAt: '2026-11-21T10:55:00.000Z', failure } }), ['copy'], []],
  ['verified 29 days ago', care({ verify: at('2026-10-23T12:00:00.000Z') }), [], []],
  ['verified 30 days ago', care({ verify: at('2026-10-22T12:00:00.000Z') }), ['verify'], []],
  [
    'verified 31 days ago, begun today',
    care({ verify: { doneAt: '2026-10-21T12:00:00.000Z', triedAt: '2026-11-21T06:00:00.000Z', failure: null } }),
    [],
    [],
  ],
  [
    'never verified to the end, failed yesterday',
    care({ verify: { doneAt: null, triedAt: '2026-11-20T11:00:00.000Z', failure } }),
    ['verify'],
    [],
  ],
  [
    'noted while the clock was wrong, a year ahead',
    { copy: at('2027-11-21T12:00:00.000Z'), collect: at('2027-11-21T12:00:00.000Z'), verify: at('2027-11-21T12:00:00.000Z') },
    ['copy'],
    ['collect', 'verify'],
  ],
  ['counting since 29 days', care({ verify: { doneAt: null, triedAt: '2026-10-23T12:00:00.000Z', failure: null } }), [], []],
])('%s', (_name, has, due, begin) => {
  expect(dueNow(has, settings, now)).toEqual({ due, begin });
});

test('verification can be switched off', () => {
  const has = care({ verify: at('2020-01-01T00:00:00.000Z') });
  expect(dueNow(has, { ...settings, verifyPeriodDays: 0 }, now)).toEqual({ due: [], begin: [] });
});
