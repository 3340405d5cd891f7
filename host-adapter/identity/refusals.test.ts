import type { IssuedRow } from '../catalogue/certificate-store';
import type { NewEvent } from '../catalogue/event-store';
import type { IdentityRow } from '../catalogue/identity-store';
import { Refusals } from './refusals';
import { Throttle } from './throttle';

const id = '3b241101-e2bb-4255-8caf-4136c566a962';

function fixture(change: { issued?: Partial<IssuedRow>; identity?: Partial<IdentityRow> } = {}) {
  const clock = { now: new Date('2026-05-01T00:00:00Z') };
  const events: NewEvent[] = [];
  const issued: IssuedRow = {
    ...{ serialNumber: 'ab12', subjectId: id, role: 'mover', issuerFingerprint: 'old' },
    ...{ issuedAt: '2026-04-01T00:00:00.000Z', expiresAt: '2026-06-01T00:00:00.000Z', ...change.issued },
  };
  const identity = { id, role: 'mover', hostName: 'nas', revokedAt: null, ...change.identity } as IdentityRow;
  const refusals = new Refusals(
    { trustedFingerprints: ['new'] },
    { identity: async (wanted) => (wanted === id ? identity : undefined) },
    { issued: async (serial) => (serial === 'ab12' ? issued : undefined) },
    { add: async (event) => void events.push(event) },
    new Throttle(5, 60_000),
    () => clock.now,
  );
  return { refusals, events, clock };
}

describe('why a process is not let in', () => {
  it.each([
    ['CERTIFICATE_CA_RETIRED', {}, `tidemark mover enrol --again ${id}`],
    ['CERTIFICATE_ENDED', { issued: { expiresAt: '2026-04-30T00:00:00.000Z' } }, `tidemark mover enrol --again ${id}`],
    ['IDENTITY_REVOKED', { identity: { revokedAt: '2026-04-30T00:00:00.000Z' } }, 'tidemark mover enrol.'],
    ['CERTIFICATE_ACCEPTED', { issued: { issuerFingerprint: 'new' } }, `tidemark mover enrol --again ${id}`],
    ['CERTIFICATE_CA_RETIRED', { identity: { role: 'worker' as const } }, '(tidemark worker enrol)'],
  ])('is told with %s, and the administrator what to do', async (code, change, advice) => {
    const { refusals, events } = fixture(change);
    expect(await refusals.explain('00AB12', '10.0.0.9:4711')).toBe(code);
    expect(events).toMatchObject([{ code: 'PEER_REFUSED', severity: 'warning', references: { identity_id: id } }]);
    expect(events[0]?.message).toContain(advice);
    expect(events[0]?.message).toContain('nas');
  });

  it('is not told of strangers, who make no events either', async () => {
    const { refusals, events } = fixture();
    expect(await refusals.explain('ffff', '10.0.0.9:1')).toBe('CERTIFICATE_UNKNOWN');
    expect(await refusals.explain('', '10.0.0.9:1')).toBe('CERTIFICATE_UNKNOWN');
    expect(events).toEqual([]);
  });

  it('is an event once a day, and is not told as often as somebody likes', async () => {
    const { refusals, events, clock } = fixture();
    for (let asked = 0; asked < 5; asked += 1) await refusals.explain('ab12', `10.0.0.9:${asked}`);
    expect(events).toHaveLength(1);
    await expect(refusals.explain('ab12', '10.0.0.9:6')).rejects.toMatchObject({ code: 'ENROLMENT_THROTTLED' });
    clock.now = new Date(clock.now.getTime() + 86_400_000);
    await refusals.explain('ab12', '10.0.0.9:7');
    expect(events).toHaveLength(2);
  });
});
