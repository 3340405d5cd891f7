import fs from 'node:fs';
import path from 'node:path';
import { protoRoot } from '../../proto/loader';
import { goldenKeys } from '../testing/golden-encrypted';
import { DocumentCipher } from './document-cipher';
import { decodeHostDocument, encodeHostDocument, hostDocumentNameOf, hostDocumentObject, isHostDocumentName } from './host-document';

/** Written once for each version of a format and never rewritten. */
const golden = (name: string) => fs.readFileSync(path.join(protoRoot, '..', 'mover', 'format', 'golden', name));
const damaged = expect.objectContaining({ code: expect.stringMatching(/OBJECT_DAMAGED|REPOSITORY_FORMAT_UNKNOWN/) as string }) as Error;

const document = {
  name: 'configuration/20261121t043043z-one',
  writtenAt: '2026-11-21T04:30:43.000Z',
  content: Buffer.from('what the host keeps'),
};
const object = hostDocumentObject(document.name);

test('golden bytes', () => {
  expect(encodeHostDocument(document).equals(golden('host-document-1.bin'))).toBe(true);
  expect(decodeHostDocument(golden('host-document-1.bin'), object)).toEqual(document);
});

test('golden bytes of an encrypted one (read only: nonces are random), which opens under its own name alone', () => {
  const cipher = new DocumentCipher(goldenKeys, object);
  expect(decodeHostDocument(golden('host-document-2.bin'), object, cipher)).toEqual(document);
  const other = `${object}2`;
  expect(() => decodeHostDocument(golden('host-document-2.bin'), other, new DocumentCipher(goldenKeys, other))).toThrow(damaged);
  expect(golden('host-document-2.bin').includes('what the host keeps')).toBe(false);
});

test('every flipped bit is found, and no document is taken for another', () => {
  const whole = golden('host-document-1.bin');
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 1;
    expect(() => decodeHostDocument(bytes, object)).toThrow(damaged);
  }
  expect(() => decodeHostDocument(whole, `${object}2`)).toThrow(damaged);
});

test('names cannot leave their folder', () => {
  for (const name of ['../points/x', 'a/../b', './a', 'a/.b', 'a', 'a/b/c', 'A/b', 'a/', `a/${'b'.repeat(99)}`, 'a/b\n'])
    expect([name, isHostDocumentName(name)]).toEqual([name, false]);
  expect([hostDocumentNameOf(object), hostDocumentNameOf('points/x'), hostDocumentNameOf('documents/.x/y')]).toEqual([
    document.name,
    undefined,
    undefined,
  ]);
});
