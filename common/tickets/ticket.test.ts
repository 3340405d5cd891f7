import { generateKeyPairSync } from 'node:crypto';
import { signTicket, verifyTicket } from './ticket';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
const otherPem = other.publicKey.export({ type: 'spki', format: 'pem' }).toString();
const claims = {
  sessionId: 's',
  repositoryId: 'r',
  rights: ['read' as const],
  expiresAt: new Date('2030-01-01T00:00:00Z'),
  pointIds: ['p'],
};

describe('tickets', () => {
  const ticket = signTicket(claims, privateKey);

  it('say what was signed', () => {
    const found = verifyTicket(ticket, [otherPem, pem], new Date('2029-01-01'));
    expect(found).toMatchObject({ expired: false, claims });
  });

  it('expire', () => {
    expect(verifyTicket(ticket, [pem], new Date('2030-01-01T00:00:00Z'))?.expired).toBe(true);
  });

  it('of another key, changed or malformed ones are refused', () => {
    expect(verifyTicket(ticket, [otherPem], new Date())).toBeUndefined();
    const [body, signature] = ticket.split('.');
    const flipped = Buffer.from(body ?? '', 'base64url');
    flipped[3] = (flipped[3] ?? 0) ^ 1;
    expect(verifyTicket(`${flipped.toString('base64url')}.${signature}`, [pem], new Date())).toBeUndefined();
    for (const bad of ['', '.', 'a.b', `${ticket}.x`, 'x'.repeat(5000)]) expect(verifyTicket(bad, [pem], new Date())).toBeUndefined();
  });
});
