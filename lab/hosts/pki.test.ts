import { X509Certificate, createPrivateKey } from 'node:crypto';
import { createLabCa, issueServerCertificate } from './pki';

test('a server certificate is signed by the authority and carries every name and address', async () => {
  const ca = await createLabCa('lab authority');
  const other = await createLabCa('lab authority');
  const server = await issueServerCertificate(ca, 'host-1.lab', ['127.0.0.1', '::1', 'host-1.lab']);
  const authority = new X509Certificate(ca.certificatePem);
  const certificate = new X509Certificate(server.certificatePem);
  expect(authority.ca).toBe(true);
  expect(certificate.ca).toBe(false);
  expect(certificate.verify(authority.publicKey)).toBe(true);
  expect(certificate.verify(new X509Certificate(other.certificatePem).publicKey)).toBe(false);
  expect(certificate.checkIssued(authority)).toBe(true);
  expect(certificate.checkPrivateKey(createPrivateKey(server.privateKeyPem))).toBe(true);
  for (const address of ['127.0.0.1', '::1']) expect(certificate.checkIP(address)).toBe(address);
  expect(certificate.checkHost('host-1.lab')).toBe('host-1.lab');
  expect(certificate.checkHost('host-2.lab')).toBeUndefined();
  expect(new Date(certificate.validTo).getTime()).toBeGreaterThan(Date.now() + 300 * 86_400_000);
});
