import { Secret, redactText, redactValue } from './redact';
import { loggerTo } from './logger';

const planted = 'planted-3f9a';

describe('redaction', () => {
  it.each([
    ['by name', { password: planted }],
    ['in depth', { a: [{ privateKeyPem: planted }] }],
    ['transfer URLs', { transferUrl: `https://h:54322/images/${planted}` }],
    ['tickets', { dataPath: { ticket: planted } }],
    ['configuration documents', { configuration: `<ovf:Envelope>${planted}` }],
    ['cloud-init', { customScript: planted }],
    ['bearer tokens in text', { text: `Authorization: Bearer ${planted}` }],
    ['image tickets in text', { text: `GET /images/${planted} failed` }],
    ['enrolment tokens in text', { text: `tmk1.${planted}.${'a'.repeat(43)}` }],
    ['OVF bodies in text', { text: `sent <ovf:Envelope a="b">${planted}</ovf:Envelope>` }],
    ['private keys in text', { text: `-----BEGIN PRIVATE KEY-----\n${planted}\n-----END PRIVATE KEY-----` }],
    ['secrets by type', { harmless: new Secret(planted) }],
    ['errors and their causes', { error: new TypeError(`Bearer ${planted}`, { cause: new TypeError(`/images/${planted}`) }) }],
  ])('hides %s', (_what, fields) => {
    const lines: string[] = [];
    loggerTo((_level, text, clean) => lines.push(text + JSON.stringify(clean))).info('x', fields);
    expect(lines.join()).not.toContain(planted);
    expect(JSON.stringify(fields)).toBeDefined();
  });

  it('keeps what is harmless', () => {
    expect(redactValue({ vmId: 'v', count: 3, empty: null, ticketExpiry: 'x' })).toEqual({
      vmId: 'v',
      count: 3,
      empty: null,
      ticketExpiry: 'x',
    });
    expect(redactText('disk 5 of vm web is ok')).toBe('disk 5 of vm web is ok');
  });

  it('ends at cycles', () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = cycle;
    expect(() => JSON.stringify(redactValue(cycle))).not.toThrow();
  });
});
