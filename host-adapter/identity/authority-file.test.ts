import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fingerprintOf } from '../../common/tls/token';
import { fingerprintsOf, trustStateOf } from '../../common/tls/trust-state';
import { begin, dropRetiredKeys, finish, longestTicketMs, newAuthorityState, readAuthorityState, useNewTicketKey } from './authority-file';
import { CertificateAuthority } from './certificate-authority';

const now = new Date('2030-01-01T00:00:00Z');
const later = (ms: number) => new Date(now.getTime() + ms);

describe('the state of the CA', () => {
  it('keeps the old CA without its key, and signs tickets with the old key until told', async () => {
    const first = await newAuthorityState();
    const second = await begin(first, now, 1000);
    expect(second.older).toEqual([first.issuing.certificatePem]);
    expect(JSON.stringify(second)).not.toContain(JSON.stringify(first.issuing.privateKeyPem).slice(30, 90));
    expect(second.ticketKeys).toHaveLength(2);
    expect(second.ticketKeys[0]).toBe(first.ticketKeys[0]);
    const third = useNewTicketKey(second, now);
    expect(third.ticketKeys[0]).toBe(second.ticketKeys[1]);
    expect(useNewTicketKey(third, now)).toBe(third);
    expect(dropRetiredKeys(third, later(longestTicketMs - 1))).toBe(third);
    expect(dropRetiredKeys(third, later(longestTicketMs + 1)).ticketKeys).toHaveLength(1);
  });

  it('ends with one CA, whoever is missing, and with the new ticket key', async () => {
    const second = await begin(await newAuthorityState(), now, 1000);
    const missing = [{ id: 'm', name: 'mover m' }];
    const done = finish(second, later(5), missing);
    expect(done).toMatchObject({ older: [], finished: { missing, finishedAt: later(5).toISOString() } });
    expect(done.issuing).not.toHaveProperty('crossCertificatePem');
    expect(done.ticketKeys[0]).toBe(second.ticketKeys[1]);
    expect(finish(done, now, [])).toBe(done);
  });
});

describe('CertificateAuthority', () => {
  let folder: string;
  const open = () => CertificateAuthority.open(folder, 'installation', ['127.0.0.1']);
  const identityFile = () => path.join(folder, 'identity', 'identity.json');
  const authorityFile = () => path.join(folder, 'identity', 'authority.json');
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-ca-'));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  it('is rotated once, however many ask at a time', async () => {
    const authority = await open();
    const rotations = [1, 2].map(() => authority.rotate(new Date(), 1000));
    const ends = await Promise.allSettled(rotations);
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(ends[1]).toMatchObject({ reason: { code: 'CA_ROTATION_RUNNING' } });
    check(authority, 2);
    expect(trustStateOf(authority.own).issuerFingerprint).toBe(authority.fingerprint);
  });

  it('goes on with a rotation that broke off at a full disk', async () => {
    const authority = await open();
    const replace = jest.spyOn(authority.own, 'replace').mockImplementationOnce(() => {
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    });
    await expect(authority.rotate(new Date(), 1000)).rejects.toThrow('no space');
    await authority.catchUp();
    expect(trustStateOf(authority.own)).toMatchObject({ issuerFingerprint: authority.fingerprint });
    check(authority, 2);
    const calls = replace.mock.calls.length;
    await authority.catchUp();
    expect(replace).toHaveBeenCalledTimes(calls);
  });

  const check = (authority: CertificateAuthority, cas: number) => {
    expect(fingerprintsOf(fs.readFileSync(path.join(folder, 'ca.pem'), 'utf8'))).toEqual(authority.trustedFingerprints);
    expect(authority.trustedFingerprints).toHaveLength(cas);
    const own = trustStateOf(authority.own);
    expect(own.issuerFingerprint).toBe(authority.fingerprint);
    expect(own.trustedCaFingerprints).toEqual(authority.trustedFingerprints);
  };

  it('goes on wherever a kill left a rotation', async () => {
    const authority = await open();
    const before = { identity: fs.readFileSync(identityFile()), ca: fs.readFileSync(path.join(folder, 'ca.pem')) };
    await authority.rotate(new Date(), 60_000);
    check(authority, 2);
    // Killed right after the first write: what follows from it was not written yet.
    const restoreOthers = (files: typeof before) => {
      fs.writeFileSync(identityFile(), files.identity);
      fs.writeFileSync(path.join(folder, 'ca.pem'), files.ca);
    };
    restoreOthers(before);
    const again = await open();
    check(again, 2);
    expect(again.fingerprint).toBe(authority.fingerprint);
    await expect(again.rotate(new Date(), 1)).rejects.toMatchObject({ code: 'CA_ROTATION_RUNNING' });

    const during = { identity: fs.readFileSync(identityFile()), ca: fs.readFileSync(path.join(folder, 'ca.pem')) };
    await again.finishRotation(new Date(), []);
    check(again, 1);
    restoreOthers(during);
    const ended = await open();
    check(ended, 1);
    expect(ended.fingerprint).toBe(again.fingerprint);
    expect(ended.own.material.certificateChainPem).not.toBe(JSON.parse(String(during.identity)).certificateChainPem);
  });

  it('issues its own certificate anew when all are to be, and once only', async () => {
    const authority = await open();
    const serial = authority.own.certificate.serialNumber;
    await authority.rotateLeaves(new Date());
    const next = authority.own.certificate.serialNumber;
    expect(next).not.toBe(serial);
    expect((await open()).own.certificate.serialNumber).toBe(next);
  });

  it('names a damaged file, and makes nothing in its place', async () => {
    await open();
    const state = readAuthorityState(authorityFile());
    fs.writeFileSync(authorityFile(), JSON.stringify({ ...state, ticketKeys: [] }));
    await expect(open()).rejects.toMatchObject({ code: 'CONFIGURATION_INVALID' });
    expect(fs.readFileSync(authorityFile(), 'utf8')).toContain(JSON.stringify(state?.issuing.certificatePem));
  });

  it('lets tokens pin the CA of who issues them, or while that is not known the oldest', async () => {
    const authority = await open();
    const first = authority.fingerprint;
    await authority.rotate(new Date(), 60_000);
    expect(fingerprintOf(authority.pinFor(authority.fingerprint))).toBe(authority.fingerprint);
    expect(fingerprintOf(authority.pinFor(undefined))).toBe(first);
    expect(fingerprintOf(authority.pinFor('of another installation'))).toBe(first);
  });
});
