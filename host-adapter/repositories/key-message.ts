import type { RepositoryKeyKind } from '../../proto/gen/tidemark/mover/v1/RepositoryKeyKind';

export type KeyKind = 'passphrase' | 'key-file' | 'recovery';

/** A key of an encrypted repository. The server passes it on to the mover and keeps nothing of it. */
export interface GivenKey {
  readonly kind: KeyKind;
  readonly secret: string;
}

const kindToWire: Readonly<Record<KeyKind, RepositoryKeyKind>> = {
  passphrase: 'REPOSITORY_KEY_KIND_PASSPHRASE',
  'key-file': 'REPOSITORY_KEY_KIND_KEY_FILE',
  recovery: 'REPOSITORY_KEY_KIND_RECOVERY',
};

export function keyToWire(key: GivenKey): { kind: RepositoryKeyKind; secret: string } {
  return { kind: kindToWire[key.kind], secret: key.secret };
}

export function kindFromWire(wire: RepositoryKeyKind): KeyKind {
  return (Object.keys(kindToWire) as KeyKind[]).find((kind) => kindToWire[kind] === wire) ?? 'passphrase';
}
