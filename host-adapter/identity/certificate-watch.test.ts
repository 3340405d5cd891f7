import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CommonErrors } from '../../common/errors/common-errors';
import type { NewEvent } from '../catalogue/event-store';
import { CertificateAuthority } from './certificate-authority';
import { CertificateWatch } from './certificate-watch';
import type { ObservedCertificate } from './certificate-watch';
import type { PeerStanding } from './rotation';

const dayMs = 86_400_000;
/** All times of a test are counted from here. */
const began = Date.now();

describe('CertificateWatch', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-watch-'));
  let authority: CertificateAuthority;
  beforeAll(async () => {
    authority = await CertificateAuthority.open(folder, 'installation', ['127.0.0.1']);
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  function watched(peers: PeerStanding[], seen: ObservedCertificate[]) {
    const clock = { now: new Date(began) };
    const events: NewEvent[] = [];
    const given = new Set<string>();
    const noteWarning = async (certificate: string, days: number) => void given.add(`${certificate} ${days}`);
    const wasWarned = async (certificate: string, days: number) => given.has(`${certificate} ${days}`);
    const failures: Error[] = [];
    const add = async (event: NewEvent) => {
      const failure = failures.shift();
      if (failure) throw failure;
      events.push(event);
    };
    const rotation = { standings: async () => peers };
    const watch = new CertificateWatch(
      authority,
      rotation,
      async () => seen,
      { noteWarning, wasWarned },
      { add },
      () => clock.now,
    );
    return { watch, events, clock, failures };
  }
  const host = (days: number, failure?: ObservedCertificate['failure']): ObservedCertificate => ({
    kind: 'engine-host',
    name: 'alpha',
    platform: 'east',
    endpoint: '10.0.0.1:54322',
    issuer: 'CN=engine',
    fingerprint: 'aa',
    expiresAt: new Date(began + days * dayMs + 1000),
    observedAt: new Date(),
    failure,
  });
  const peer = (role: 'mover' | 'worker', issuedDaysAgo: number, change: Partial<PeerStanding> = {}): PeerStanding => ({
    id: `${role}-1`,
    role,
    name: `${role}.example`,
    connected: true,
    confirmed: true,
    awaited: true,
    enrolsAtStart: false,
    issued: {
      serialNumber: '1',
      subjectId: `${role}-1`,
      role,
      issuerFingerprint: 'f',
      issuedAt: new Date(began - issuedDaysAgo * dayMs).toISOString(),
      expiresAt: new Date(began + ((role === 'worker' ? 7 : 90) - issuedDaysAgo) * dayMs).toISOString(),
    },
    reported: {} as PeerStanding['reported'],
    lastHeardAt: new Date(),
    ...change,
  });

  it('lists our CA, the server and every process, with what happens next', async () => {
    const { watch } = watched([peer('mover', 10.5), peer('worker', 1, { confirmed: false })], [host(398)]);
    const list = await watch.list();
    expect(list.map(({ kind, state }) => [kind, state])).toEqual([
      ['ca', 'valid'],
      ['host', 'valid'],
      ['mover', 'valid'],
      ['worker', 'replacing'],
      ['engine-host', 'valid'],
    ]);
    expect(list[2]).toMatchObject({ id: 'mover-1', daysLeft: 79, note: expect.stringMatching(/^Renews itself on /) });
    expect(list[4]).toMatchObject({ platform: 'east', endpoint: '10.0.0.1:54322', daysLeft: 398, note: '' });
  });

  it('warns 60, 30, 7 and 1 days before the end and when it came, each once', async () => {
    const { watch, events: all, clock } = watched([], [host(70)]);
    const ofHost = () => all.filter((event) => event.references['platform'] === 'east');
    const start = clock.now.getTime();
    const after: Record<number, number> = {};
    for (let day = 0; day <= 72; day += 1) {
      clock.now = new Date(start + day * dayMs);
      await watch.warn();
      await watch.warn();
      after[70 - day] = ofHost().length;
    }
    const events = ofHost();
    expect(events.map(({ code, severity }) => [code, severity])).toEqual([
      ['CERTIFICATE_EXPIRING', 'warning'],
      ['CERTIFICATE_EXPIRING', 'warning'],
      ['CERTIFICATE_EXPIRING', 'error'],
      ['CERTIFICATE_EXPIRING', 'error'],
      ['CERTIFICATE_EXPIRED', 'error'],
    ]);
    expect([after[61], after[60], after[30], after[7], after[1], after[-1]]).toEqual([0, 1, 2, 3, 4, 5]);
    expect(events[0]?.message).toContain('certificate of engine host alpha (10.0.0.1:54322) of platform east ends on');
    expect(events[0]?.message).toContain('Enroll Certificate');
  });

  it('warns again when the warning could not be kept', async () => {
    const { watch, events, failures } = watched([], [host(20)]);
    failures.push(new TypeError('the disk is full'));
    await expect(watch.warn()).rejects.toThrow('full');
    await watch.warn();
    expect(events.map(({ references }) => references['platform'])).toEqual(['east']);
  });

  it('is silent about what renews itself, until that is overdue', async () => {
    const due = watched([peer('worker', 5), peer('mover', 61)], []);
    await due.watch.warn();
    expect(due.events).toEqual([]);
    const late = watched([peer('worker', 6.5, { connected: false }), peer('mover', 85, { connected: false })], []);
    await late.watch.warn();
    expect(late.events.map((event) => event.references['identity_id'])).toEqual(['worker-1', 'mover-1']);
    expect(late.events[1]?.message).toContain('tidemark mover enrol --again mover-1');
  });

  it('says nothing of a worker VM that is off, whatever its last certificate', async () => {
    const { watch, events } = watched([peer('worker', 8, { connected: false, awaited: false, enrolsAtStart: true })], []);
    expect((await watch.list())[2]).toMatchObject({ state: 'valid', note: 'Not running; enrols at its next start.' });
    await watch.warn();
    expect(events).toEqual([]);
  });

  it('lists what cannot be looked at with the reason, and does not warn of that', async () => {
    const failure = CommonErrors.PEER_UNAVAILABLE({ peer: '10.0.0.1:54322' });
    const { watch, events } = watched([], [{ ...host(100, failure), expiresAt: undefined }, host(100, failure), host(20, failure)]);
    expect((await watch.list()).slice(2)).toMatchObject([
      { state: 'unreachable', daysLeft: null, failure: { code: 'PEER_UNAVAILABLE' } },
      { state: 'unreachable', daysLeft: 100 },
      { state: 'expiring', daysLeft: 20 },
    ]);
    await watch.warn();
    expect(events).toHaveLength(1);
  });
});
