import fs from 'node:fs';
import path from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import fc from 'fast-check';
import { Secret } from '../../common/log/redact';
import { protoRoot } from '../../proto/loader';
import * as made from '../testing/golden-encrypted';
import { DocumentCipher } from './document-cipher';
import { decodeDraft } from './draft-record';
import { findSlot, secretBytes, unwrapFromSlot } from './key-slot';
import { decodeKeys, encodeKeys, unwrapKey } from './keys-document';
import { decodeManifest, decodePointSection, encodeManifest, pointSectionLength } from './manifest';
import { packKeyId, PACK_FOOTER_BYTES, readPackEntries, readPackFooter } from './pack';
import { PackCipher } from './pack-cipher';
import { formatRecoveryKey, parseRecoveryKey } from '../../common/secrets/recovery-key';
import { decodeHeaderDocument, encodeHeaderDocument } from './repository-header';
import { decodeSession, sessionName } from './session-record';

const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));
const code = (...codes: string[]) => expect.objectContaining({ code: expect.stringMatching(codes.join('|')) as string }) as Error;
const document = (name: string) => new DocumentCipher(made.goldenKeys, name);
const repositoryId = made.goldenHeader.repositoryId;

/** A document with its checksums made right again after somebody changed it. */
function withChecks(bytes: Buffer): Buffer {
  const sections = bytes[10] as number;
  let at = 12 + 12 * sections;
  const preamble = bytes.subarray(0, at);
  for (let i = 0; i < sections; i++) {
    const end = at + bytes.readUInt32BE(12 + 12 * i + 4);
    blake3(Buffer.concat([preamble, Buffer.from([i]), bytes.subarray(at, end)])).copy(bytes, end);
    at = end + 32;
  }
  return bytes;
}

describe('golden bytes of encrypted objects', () => {
  test('header: nothing secret in it, and a version of its own', () => {
    expect(encodeHeaderDocument(made.goldenHeader).equals(golden('header-2.bin'))).toBe(true);
    expect(decodeHeaderDocument(golden('header-2.bin'))).toEqual(made.goldenHeader);
    expect(golden('header-2.bin').includes('digestKey')).toBe(false);
  });

  test('pack', () => {
    expect(made.goldenPack().equals(golden('pack-2.bin'))).toBe(true);
    const whole = golden('pack-2.bin');
    const footer = readPackFooter(whole.subarray(-PACK_FOOTER_BYTES), whole.length, made.goldenPackId, 'pack');
    const { keyId } = made.goldenKeys.current;
    expect([footer.keyId, packKeyId(whole.subarray(0, 64), 'pack')]).toEqual([keyId, keyId]);
    const entries = readPackEntries(whole.subarray(footer.entryListOffset), footer, 'pack', made.goldenCipher);
    expect(entries).toEqual(made.goldenEntries);
    entries.forEach((entry, i) => {
      const sealed = Buffer.from(whole.subarray(entry.offset, entry.offset + entry.storedLength));
      expect(made.goldenCipher.openBlock(entry, entry.offset, sealed).equals(made.goldenPayloads[i] as Buffer)).toBe(true);
    });
  });

  test('manifest, session record and draft (read only: nonces are random)', () => {
    const cipher = document(made.goldenManifestName);
    const manifest = golden('manifest-2.bin');
    expect(decodeManifest(manifest, made.goldenPoint.pointId, cipher)).toEqual({ point: made.goldenPoint, configuration: '{"ovf":"…"}' });
    const length = pointSectionLength(manifest.subarray(0, 64), made.goldenPoint.pointId);
    expect(decodePointSection(manifest.subarray(0, length), made.goldenPoint.pointId, cipher)).toEqual(made.goldenPoint);
    const name = sessionName(made.goldenSession.sessionId);
    expect(decodeSession(golden('session-2.bin'), name, document(name))).toEqual(made.goldenSession);
    const draft = golden('draft-2.bin');
    expect(decodeDraft(draft, made.goldenDraftName, document(made.goldenDraftName))).toEqual(made.goldenDraft);
    expect(() => decodeDraft(draft, 'another', document('another'))).toThrow(code('OBJECT_DAMAGED'));
  });

  test('keys: each of three secrets leads to all of them', async () => {
    const { document: keys, isGenuine } = decodeKeys(golden('keys-1.bin'), 'keys');
    for (const [i, secret] of made.goldenSecrets.entries()) {
      const found = await findSlot(keys.slots, secret);
      expect(found?.slot).toEqual(keys.slots[i]);
      expect(found && unwrapFromSlot(found.slot, repositoryId, found.slotKey)?.equals(made.masterKey)).toBe(true);
    }
    expect([isGenuine(made.masterKey), isGenuine(Buffer.alloc(32))]).toEqual([true, false]);
    const { keyId, key } = made.goldenKeys.current;
    const wrapped = keys.ring[0]?.wrapped ?? '';
    expect(unwrapKey(made.masterKey, repositoryId, `data key ${keyId}`, wrapped)?.equals(key)).toBe(true);
    expect(unwrapKey(made.masterKey, repositoryId, 'digest key', wrapped)).toBeUndefined();
    expect(unwrapKey(made.masterKey, made.id('2'), `data key ${keyId}`, wrapped)).toBeUndefined();
    expect(await findSlot(keys.slots, { kind: 'passphrase', secret: new Secret('correct horse battery stable') })).toBeUndefined();
  });
});

describe('what somebody without a key changes is found, checksums made right or not', () => {
  test('any bit of a block, and any of what is said of it', () => {
    const whole = golden('pack-2.bin');
    const [entry] = made.goldenEntries as [(typeof made.goldenEntries)[number]];
    const open = (traits: object, offset = entry.offset, bit = -1, cipher = made.goldenCipher) => {
      const sealed = Buffer.from(whole.subarray(entry.offset, entry.offset + entry.storedLength));
      if (bit >= 0) sealed[bit >> 3] = (sealed[bit >> 3] as number) ^ (1 << (bit & 7));
      return cipher.openBlock({ ...entry, ...traits }, offset, sealed);
    };
    expect(open({}).equals(made.goldenPayloads[0] as Buffer)).toBe(true);
    for (let bit = 0; bit < entry.storedLength * 8; bit++) expect(() => open({}, entry.offset, bit)).toThrow(code('BLOCK_CORRUPT'));
    for (const traits of [{ codec: 0 }, { kind: 1 }, { rawLength: 65_535 }, { digest: Buffer.alloc(32) }])
      expect(() => open(traits)).toThrow(code('BLOCK_CORRUPT'));
    expect(() => open({}, entry.offset + 1)).toThrow(code('BLOCK_CORRUPT'));
    const ofAnotherPack = new PackCipher(made.goldenKeys.current.key, made.goldenKeys.current.keyId, Buffer.alloc(16));
    expect(() => open({}, entry.offset, -1, ofAnotherPack)).toThrow(code('BLOCK_CORRUPT'));
  });

  test('any byte of a trailer', () => {
    const whole = golden('pack-2.bin');
    const start = 64 + 26 + 8208;
    for (let at = start; at < whole.length - 32; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] as number) ^ 2;
      blake3(damaged.subarray(start, damaged.length - 32)).copy(damaged, damaged.length - 32);
      const read = () => {
        const footer = readPackFooter(damaged.subarray(-PACK_FOOTER_BYTES), damaged.length, made.goldenPackId, 'p');
        // A key that is not in the ring is refused by who reads the list.
        if (footer.keyId !== made.goldenKeys.current.keyId) throw Object.assign(new Error('unknown key'), { code: 'PACK_DAMAGED' });
        return readPackEntries(damaged.subarray(start), footer, 'p', made.goldenCipher);
      };
      expect(read).toThrow(code('PACK_DAMAGED', 'REPOSITORY_FORMAT_UNKNOWN'));
    }
  });

  test('any byte of a document, another one under its name, and one in the clear', () => {
    const { pointId } = made.goldenPoint;
    const cipher = document(made.goldenManifestName);
    const whole = golden('manifest-2.bin');
    for (let at = 0; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] as number) ^ 1;
      const forged = at >= 36 ? withChecks(damaged) : damaged;
      if (!forged.equals(whole)) expect(() => decodeManifest(forged, pointId, cipher)).toThrow(code('MANIFEST_DAMAGED', 'FORMAT_UNKNOWN'));
    }
    expect(() => decodeManifest(whole, pointId, document('points/other.manifest'))).toThrow(code('MANIFEST_DAMAGED'));
    expect(() => decodeManifest(whole, pointId)).toThrow(code('MANIFEST_DAMAGED'));
    expect(() => decodeManifest(encodeManifest(made.goldenPoint, ''), pointId, cipher)).toThrow(code('MANIFEST_DAMAGED'));
  });

  test('keys that were rearranged', () => {
    const { document: keys } = decodeKeys(golden('keys-1.bin'), 'keys');
    for (const changed of [
      { ...keys, slots: keys.slots.slice(1) },
      { ...keys, slots: keys.slots.map((slot) => ({ ...slot, publicKey: keys.slots[0]?.publicKey ?? '' })) },
      { ...keys, ring: [...keys.ring, ...keys.ring] },
    ])
      expect(decodeKeys(encodeKeys(changed, Buffer.alloc(32)), 'keys').isGenuine(made.masterKey)).toBe(false);
  });
});

describe('recovery keys', () => {
  test('come back from what somebody writes down', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (bytes) => {
        const key = Buffer.from(bytes);
        const text = formatRecoveryKey(key);
        expect(text).toMatch(/^([0-9A-HJKMNP-TV-Z]{5}-){12}[0-9A-HJKMNP-TV-Z]{5}$/);
        expect(parseRecoveryKey(text.toLowerCase().replaceAll('-', ' ').replaceAll('1', 'l').replaceAll('0', 'o'))).toEqual({ key });
      }),
    );
  });

  test('any wrong character is found, and its group named', () => {
    const text = formatRecoveryKey(Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7)));
    for (let at = 0; at < text.length; at++) {
      if (text[at] === '-') continue;
      const wrong = `${text.slice(0, at)}${text[at] === 'Z' ? 'Y' : 'Z'}${text.slice(at + 1)}`;
      expect(parseRecoveryKey(wrong)).toEqual({ problem: `group ${Math.floor(at / 6) + 1} of 13 is mistyped` });
    }
    expect(parseRecoveryKey(text.slice(1))).toEqual({ problem: 'it has 64 characters, not 65' });
    const [first, second, ...rest] = text.split('-');
    expect(parseRecoveryKey([second, first, ...rest].join('-'))).toEqual({ problem: 'group 1 of 13 is mistyped' });
  });
});

test('secrets that are none are refused without being repeated', () => {
  for (const [kind, text] of [
    ['passphrase', 'too short 1'],
    ['key-file', 'not-hexadecimal-digits'],
    ['recovery', 'not-a-recovery-key'],
  ] as const) {
    expect(() => secretBytes({ kind, secret: new Secret(text) })).toThrow(code('ARGUMENT_INVALID'));
    expect(() => secretBytes({ kind, secret: new Secret(text) })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining(text) as string }) as Error,
    );
  }
});
