/** Recovery keys as text: 256 bits for a sheet of paper, of repositories and of the configuration, as docs/formats/encryption.md has them. Pure. */

const keyBytes = 32;

/** Crockford's base 32: no I, L, O and U; https://www.crockford.com/base32.html. */
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const groups = 13;
const charactersPerGroup = 4;
const weights = [1, 3, 5, 7];

/** 13 groups of four characters and a check character, separated by hyphens. */
export function formatRecoveryKey(key: Buffer): string {
  if (key.length !== keyBytes) throw new RangeError(`a recovery key has ${keyBytes} bytes`);
  const bits = BigInt(`0x${key.toString('hex')}`) << 4n;
  const values = Array.from({ length: groups * charactersPerGroup }, (_, i) => Number((bits >> BigInt(5 * (51 - i))) & 31n));
  return Array.from({ length: groups }, (_, group) => {
    const own = values.slice(group * charactersPerGroup, (group + 1) * charactersPerGroup);
    return [...own, checkOf(own, group)].map((value) => alphabet[value]).join('');
  }).join('-');
}

/** The key, or what is wrong with the text. Case, spaces and hyphens do not matter; I and L count as 1, O as 0. */
export function parseRecoveryKey(text: string): { readonly key: Buffer } | { readonly problem: string } {
  const clean = text.toUpperCase().replace(/[\s-]/g, '').replace(/[IL]/g, '1').replace(/O/g, '0');
  const width = charactersPerGroup + 1;
  if (clean.length !== groups * width) return { problem: `it has ${clean.length} characters, not ${groups * width}` };
  let bits = 0n;
  for (let group = 0; group < groups; group++) {
    const all = [...clean.slice(group * width, (group + 1) * width)].map((character) => alphabet.indexOf(character));
    const own = all.slice(0, charactersPerGroup);
    if (all.includes(-1) || all[charactersPerGroup] !== checkOf(own, group))
      return { problem: `group ${group + 1} of ${groups} is mistyped` };
    for (const value of own) bits = (bits << 5n) | BigInt(value);
  }
  if ((bits & 15n) !== 0n) return { problem: `group ${groups} of ${groups} is mistyped` };
  return { key: Buffer.from((bits >> 4n).toString(16).padStart(keyBytes * 2, '0'), 'hex') };
}

/** Odd weights: any one wrong character is found; the group's number: groups that changed places too. */
function checkOf(values: readonly number[], group: number): number {
  return values.reduce((sum, value, i) => sum + value * (weights[i] as number), group) % 32;
}
