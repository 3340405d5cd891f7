const goneFlag = 1;
const condemnedFlag = 2;
const damagedFlag = 4;

/** Packs that exist, by number and by id, and which of them count. Numbers are this process's own and never given again. */
export class PackTable {
  private readonly numbers = new Map<string, number>();
  private readonly packs: { id: string; fileLength: number; entryCount: number }[] = [];
  private flags = new Uint8Array(1024);
  private condemned = new Set<string>();
  private readonly damaged = new Set<string>();
  private bytes = 0;
  private entries = 0;

  /** How many exist. */
  get count(): number {
    return this.numbers.size;
  }

  /** Ids of all that exist. */
  ids(): string[] {
    return [...this.numbers.keys()];
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
      if (number >= this.flags.length) this.flags = grown(this.flags);
      this.flags[number] = this.flagsOf(id);
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

  /** False for a pack that was deleted: nothing of it may be read. */
  exists(number: number): boolean {
    return ((this.flags[number] as number) & goneFlag) === 0;
  }

  /** False also for a condemned or damaged pack: no new reference to it may be made. */
  counts(number: number): boolean {
    return this.flags[number] === 0;
  }

  /** Says which packs are condemned from now on, known to the table or not; those of before that are not named count again. */
  setCondemned(ids: ReadonlySet<string>): void {
    this.condemned = new Set(ids);
    for (const [id, number] of this.numbers) this.flags[number] = this.flagsOf(id);
  }

  /** Ids of condemned packs, known to the table or not. */
  condemnedIds(): string[] {
    return [...this.condemned];
  }

  isCondemned(id: string): boolean {
    return this.condemned.has(id);
  }

  /** Says of a pack, known to the table or not, that it is damaged as a whole, or is not. */
  setDamaged(id: string, isDamaged: boolean): void {
    if (isDamaged) this.damaged.add(id);
    else this.damaged.delete(id);
    const number = this.numbers.get(id);
    if (number !== undefined) this.flags[number] = this.flagsOf(id);
  }

  isDamaged(id: string): boolean {
    return this.damaged.has(id);
  }

  /** A pack was deleted. */
  drop(id: string): void {
    const number = this.numbers.get(id);
    if (number === undefined) return;
    this.describe(number, 0, 0);
    this.numbers.delete(id);
    this.flags[number] = goneFlag;
  }

  /** Undefined also for a pack that was dropped. */
  numberOf(id: string): number | undefined {
    return this.numbers.get(id);
  }

  idOf(number: number): string {
    const pack = this.packs[number];
    if (!pack) throw new RangeError(`pack ${number}`);
    return pack.id;
  }

  private flagsOf(id: string): number {
    return (this.condemned.has(id) ? condemnedFlag : 0) | (this.damaged.has(id) ? damagedFlag : 0);
  }

  lengthOf(number: number): number {
    return this.packs[number]?.fileLength ?? 0;
  }

  entryCountOf(number: number): number {
    return this.packs[number]?.entryCount ?? 0;
  }
}

function grown(flags: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(flags.length * 2);
  larger.set(flags);
  return larger;
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
