/** Packs that exist, by number and by id. Numbers are this process's own. */
export class PackTable {
  private readonly numbers = new Map<string, number>();
  private readonly packs: { id: string; fileLength: number; entryCount: number }[] = [];
  private bytes = 0;
  private entries = 0;

  get count(): number {
    return this.packs.length;
  }

  /** Bytes of all packs whose length is known. */
  get totalBytes(): number {
    return this.bytes;
  }

  /** Entries of all packs, a digest that is in two of them counted twice. */
  get totalEntries(): number {
    return this.entries;
  }

  /** Number of a pack; adds it when it is new. */
  add(id: string): number {
    let number = this.numbers.get(id);
    if (number === undefined) {
      number = this.packs.length;
      this.numbers.set(id, number);
      this.packs.push({ id, fileLength: 0, entryCount: 0 });
    }
    return number;
  }

  describe(number: number, fileLength: number, entryCount: number): void {
    const pack = this.packs[number];
    if (!pack) throw new RangeError(`pack ${number}`);
    this.bytes += fileLength - pack.fileLength;
    this.entries += entryCount - pack.entryCount;
    pack.fileLength = fileLength;
    pack.entryCount = entryCount;
  }

  numberOf(id: string): number | undefined {
    return this.numbers.get(id);
  }

  idOf(number: number): string {
    const pack = this.packs[number];
    if (!pack) throw new RangeError(`pack ${number}`);
    return pack.id;
  }

  lengthOf(number: number): number {
    return this.packs[number]?.fileLength ?? 0;
  }

  entryCountOf(number: number): number {
    return this.packs[number]?.entryCount ?? 0;
  }
}

/** Object name of a pack; ids are UUIDs. */
export function packName(id: string): string {
  return `packs/${id.slice(0, 2)}/${id}.pack`;
}

/** Id in a pack's name; undefined for foreign names. */
export function packIdOf(name: string): string | undefined {
  return /^packs\/[0-9a-f]{2}\/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.pack$/.exec(name)?.[1];
}

/** 16 bytes of a UUID. */
export function uuidBytes(id: string): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex');
}

/** UUID of 16 bytes. */
export function uuidText(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}
