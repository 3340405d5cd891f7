import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Secret } from '../../common/log/redact';
import { formatRecoveryKey } from '../../common/secrets/recovery-key';
import { privateKeyOf, publicBytes } from '../../common/secrets/x25519';
import { protoRoot } from '../../proto/loader';
import { ConfigurationKey } from './configuration-key';
import { openEnvelope, readEnvelopeHeader, sealEnvelope } from './envelope';

const seed = Buffer.alloc(32, 0x5a);
const recoveryKey = new Secret(formatRecoveryKey(seed));
const recipient = { publicKey: publicBytes(privateKeyOf(seed)), createdAt: '2026-11-20T10:00:00.000Z' };
const head = { createdAt: '2026-11-21T02:30:00.000Z', installationId: 'one', productVersion: '1.0.0' };
const content = Buffer.from('{"secret":"the password of the engine"}');
const name = 'configuration/x';

test('opens with its recovery key alone, and says which one it needs', () => {
  const sealed = sealEnvelope(head, content, recipient);
  expect(sealed.includes('password')).toBe(false);
  expect(readEnvelopeHeader(sealed, name)).toMatchObject({ ...head, keyCreatedAt: recipient.createdAt });
  expect(openEnvelope(sealed, name, recoveryKey).content.equals(content)).toBe(true);
  const other = new Secret(formatRecoveryKey(Buffer.alloc(32, 1)));
  expect(() => openEnvelope(sealed, name, other)).toThrow(expect.objectContaining({ code: 'CONFIGURATION_KEY_WRONG' }) as Error);
  const mistyped = new Secret(recoveryKey.reveal().replace(/^./, (c) => (c === '0' ? '1' : '0')));
  expect(() => openEnvelope(sealed, name, mistyped)).toThrow(/group 1 of 13 is mistyped/);
});

test('golden bytes (read only: each has a fresh key)', () => {
  const golden = fs.readFileSync(path.join(protoRoot, '..', 'host-adapter', 'configuration', 'golden', 'configuration-1.bin'));
  expect(openEnvelope(golden, name, recoveryKey)).toMatchObject({ header: head, content });
});

test('every flipped bit and every cut is found', () => {
  const sealed = sealEnvelope(head, content, recipient);
  for (let at = 0; at < sealed.length; at++) {
    const bytes = Buffer.from(sealed);
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(() => openEnvelope(bytes, name, recoveryKey)).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/^CONFIGURATION_(COPY_DAMAGED|COPY_UNKNOWN|KEY_WRONG)$/) as string }) as Error,
    );
    expect(() => openEnvelope(sealed.subarray(0, at), name, recoveryKey)).toThrow(
      expect.objectContaining({ code: 'CONFIGURATION_COPY_DAMAGED' }) as Error,
    );
  }
});

test('the recovery key is shown once, and what it opens stays openable', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-configuration-'));
  try {
    const file = path.join(folder, 'configuration-key.json');
    const made = ConfigurationKey.open(file, new Date());
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    const before = sealEnvelope(head, content, made);
    const opened = ConfigurationKey.open(file, new Date());
    expect([opened.fingerprint, opened.wasShown]).toEqual([made.fingerprint, false]);
    const first = opened.showOnce();
    expect(fs.readFileSync(file, 'utf8').includes(first.reveal())).toBe(false);
    expect(() => opened.showOnce()).toThrow(expect.objectContaining({ code: 'CONFIGURATION_KEY_SHOWN' }) as Error);
    const second = opened.renew(new Date());
    const after = sealEnvelope(head, content, ConfigurationKey.open(file, new Date()));
    expect(openEnvelope(before, name, first).content.equals(content)).toBe(true);
    expect(openEnvelope(after, name, second).content.equals(content)).toBe(true);
    expect(() => openEnvelope(after, name, first)).toThrow(expect.objectContaining({ code: 'CONFIGURATION_KEY_WRONG' }) as Error);
    fs.writeFileSync(file, '{');
    expect(() => ConfigurationKey.open(file, new Date())).toThrow(expect.objectContaining({ code: 'CONFIGURATION_INVALID' }) as Error);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});
