import { createAuthority, issueIdentity } from './authority';
import { ProcessIdentity } from './identity';
import { fingerprintOf } from './token';
import { fingerprintsOf, sameAuthorities, taskOf, trustStateOf } from './trust-state';

describe('trust state', () => {
  it('tells the trusted CAs, the issuer, the serial number and the end', async () => {
    const older = await createAuthority('older');
    const newer = await createAuthority('newer');
    const issued = await issueIdentity(older, { role: 'mover', id: 'm' }, []);
    const trustBundlePem = `${newer.certificatePem}\n${older.certificatePem}\n`;
    const identity = new ProcessIdentity({ ...issued, trustBundlePem }, undefined);
    const state = trustStateOf(identity);
    expect(state.trustedCaFingerprints).toEqual([newer, older].map((one) => fingerprintOf(one.certificatePem)));
    expect(state.issuerFingerprint).toBe(fingerprintOf(older.certificatePem));
    expect(state.serialNumber).toMatch(/^[1-9a-f][0-9a-f]{20,31}$/);
    expect(state.expiresAt).toMatchObject({ seconds: String(Date.parse(identity.certificate.validTo) / 1000) });
    expect(trustStateOf(new ProcessIdentity({ ...issued, trustBundlePem: newer.certificatePem }, undefined)).issuerFingerprint).toBe('');
  });

  it('says what an order asks for, once', async () => {
    const authority = await createAuthority('one');
    const issue = () => issueIdentity(authority, { role: 'mover', id: 'm' }, []);
    const identity = new ProcessIdentity(await issue(), undefined);
    const own = fingerprintsOf(authority.certificatePem);
    const { serialNumber } = trustStateOf(identity);
    expect(taskOf({ trustedCaFingerprints: own, renewCertificate: false }, identity, serialNumber)).toEqual({
      bundle: false,
      certificate: false,
    });
    expect(taskOf({ trustedCaFingerprints: [...own, 'aa'], renewCertificate: true }, identity, serialNumber)).toEqual({
      bundle: true,
      certificate: true,
    });
    identity.replace(await issue());
    expect(taskOf({ trustedCaFingerprints: [], renewCertificate: true }, identity, serialNumber)).toEqual({
      bundle: false,
      certificate: false,
    });
  });

  it('compares sets', () => {
    expect(sameAuthorities(['a', 'b'], ['b', 'a'])).toBe(true);
    expect(sameAuthorities(['a', 'a'], ['a', 'b'])).toBe(false);
    expect(sameAuthorities([], [])).toBe(true);
  });
});
