import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openCatalogue } from '../catalogue/catalogue';
import type { Database } from '../catalogue/catalogue';
import { CertificateStore } from '../catalogue/certificate-store';
import { EventStore } from '../catalogue/event-store';
import { IdentityStore } from '../catalogue/identity-store';
import { quiet } from '../testing/fake-process';
import { CertificateAuthority } from './certificate-authority';
import type { EnrolledRole } from './enrolment';
import { Rotation } from './rotation';

const dayMs = 86_400_000;
const minuteMs = 60_000;

describe('Rotation', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-rotation-'));
  const clock = { now: new Date() };
  let db: Database;
  let authority: CertificateAuthority;
  let store: CertificateStore;
  let rotation: Rotation;
  let serials = 0;

  beforeAll(async () => {
    db = await openCatalogue(':memory:');
    authority = await CertificateAuthority.open(folder, 'installation', ['127.0.0.1']);
    store = new CertificateStore(db);
    rotation = new Rotation(authority, new IdentityStore(db), store, new EventStore(db), quiet, () => clock.now);
    await enrolled('plugin-1', 'plugin');
    await enrolled('mover-1', 'mover');
    await enrolled('worker-1', 'worker', 1);
  });
  afterAll(async () => {
    await db.destroy();
    fs.rmSync(folder, { recursive: true });
  });

  const pass = (ms: number) => (clock.now = new Date(clock.now.getTime() + ms));
  const current = new Map<string, { serialNumber: string; issuerFingerprint: string; expiresAt: Date }>();
  async function enrolled(id: string, role: EnrolledRole, enrolsAtStart = 0): Promise<void> {
    const row = { enrolledThrough: null, instanceId: id, hostName: `host of ${id}`, version: '1', addressesJson: '[]' };
    const identity = { ...row, id, role, enrolledAt: clock.now.toISOString(), enabled: 1, revokedAt: null, enrolsAtStart };
    await db.insertInto('identity').values(identity).execute();
    await issued(id, role);
  }
  /** As if the CA had issued one for it. */
  async function issued(id: string, role: EnrolledRole): Promise<void> {
    const expiresAt = new Date(clock.now.getTime() + (role === 'worker' ? 7 : 90) * dayMs);
    const made = { serialNumber: `${(serials += 1)}`, issuerFingerprint: authority.fingerprint, expiresAt };
    current.set(id, made);
    const row = { serialNumber: made.serialNumber, subjectId: id, role, issuerFingerprint: made.issuerFingerprint };
    await store.addIssued({ ...row, issuedAt: clock.now.toISOString(), expiresAt: expiresAt.toISOString() });
  }
  function heartbeat(id: string, trusted = authority.trustedFingerprints) {
    const { serialNumber, issuerFingerprint, expiresAt } = current.get(id)!;
    const end = { seconds: String(Math.floor(expiresAt.getTime() / 1000)), nanos: 0 };
    return rotation.report(id, { trustedCaFingerprints: trusted, issuerFingerprint, serialNumber, expiresAt: end });
  }
  /** Obeys its order and reports. */
  async function follows(id: string): Promise<void> {
    const order = await heartbeat(id);
    if (order?.renewCertificate === true) await issued(id, id.split('-')[0] as EnrolledRole);
    expect((await heartbeat(id))?.renewCertificate).toBe(false);
    await rotation.review();
  }
  const missing = async () => (await rotation.missing()).map(({ id }) => id);
  const events = async () => (await new EventStore(db).events(100, undefined, undefined)).map(({ code }) => code).reverse();

  it('asks nothing of a peer that has what is wanted, and nothing of one that reports nothing', async () => {
    const order = { trustedCaFingerprints: authority.trustedFingerprints, renewCertificate: false };
    for (const id of current.keys()) expect(await heartbeat(id)).toEqual(order);
    expect(await rotation.report('mover-1', null)).toBeUndefined();
    expect(await missing()).toEqual([]);
  });

  it('has all certificates issued anew, each once', async () => {
    pass(1000);
    await rotation.rotateLeaves('admin');
    expect(await missing()).toEqual(['plugin-1', 'mover-1', 'worker-1']);
    for (const id of current.keys()) await follows(id);
    expect(await missing()).toEqual([]);
  });

  it('keeps two CAs until the mover has followed too, and its ticket keys settled', async () => {
    pass(1000);
    await rotation.rotateAuthority(30, 'admin');
    const [, old] = authority.trustedFingerprints;
    expect((await heartbeat('mover-1', [old ?? '']))?.trustedCaFingerprints).toEqual(authority.trustedFingerprints);
    const signer = authority.ticketSigningKey;
    await follows('plugin-1');
    await follows('worker-1');
    expect(await missing()).toEqual(['mover-1']);
    await follows('mover-1');
    expect(authority.state.rotation).toBeDefined();
    expect(authority.ticketSigningKey).toBe(signer);
    await rotation.review();
    expect(authority.ticketSigningKey).toBe(signer);
    pass(4000);
    await rotation.review();
    expect(authority.ticketSigningKey).not.toBe(signer);
    expect(authority.ticketPublicKeysPem).toHaveLength(2);
    expect(authority.state.rotation).toBeUndefined();
    expect(authority.state.finished).toMatchObject({ missing: [] });
    pass(dayMs + minuteMs);
    await rotation.review();
    expect(authority.ticketPublicKeysPem).toHaveLength(1);
    expect((await events()).slice(-2)).toEqual(['CA_ROTATION_STARTED', 'CA_ROTATION_FINISHED']);
  });

  it('signs with no new ticket key just after a start, when it has heard of no mover yet', async () => {
    for (const id of current.keys()) await follows(id);
    await rotation.rotateAuthority(30, 'admin');
    const signer = authority.ticketSigningKey;
    // As a server that was killed then, and started again.
    rotation = new Rotation(authority, new IdentityStore(db), store, new EventStore(db), quiet, () => clock.now);
    await rotation.review();
    expect(authority.ticketSigningKey).toBe(signer);
    for (const id of current.keys()) await follows(id);
    pass(4000);
    await rotation.review();
    expect(authority.ticketSigningKey).not.toBe(signer);
    expect(authority.state.rotation).toBeUndefined();
  });

  it('waits for nobody who enrols at its next start or cannot come back, and names who is missing at the end', async () => {
    for (const id of current.keys()) await follows(id);
    await rotation.rotateAuthority(2, 'admin');
    await enrolled('mover-2', 'mover');
    await issued('mover-2', 'worker');
    pass(minuteMs);
    await follows('plugin-1');
    // The worker VM was shut down: soon nobody counts on it. mover-2 never said a word.
    expect(await missing()).toEqual(['mover-1', 'mover-2', 'worker-1']);
    pass(11 * minuteMs);
    expect(await missing()).toEqual(['mover-1', 'mover-2']);
    pass(dayMs);
    await rotation.review();
    expect(authority.trustedFingerprints).toHaveLength(2);
    pass(dayMs);
    await rotation.review();
    expect(authority.trustedFingerprints).toHaveLength(1);
    const names = [
      { id: 'mover-1', name: 'mover host of mover-1' },
      { id: 'mover-2', name: 'mover host of mover-2' },
    ];
    expect(authority.state.finished?.missing).toEqual(names);
    expect((await events()).at(-1)).toBe('CA_ROTATION_INCOMPLETE');
    // A peer whose certificate is over is not waited for either.
    pass(8 * dayMs);
    expect((await rotation.standings()).find(({ id }) => id === 'mover-2')).toMatchObject({ awaited: false, confirmed: false });
  });
});
