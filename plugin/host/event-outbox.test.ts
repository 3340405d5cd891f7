import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { MemoryOutboxFile } from '../testing/memory-outbox-file';
import { quietLogger } from '../testing/quiet-logger';
import { EventOutbox, eventBatch } from './event-outbox';
import { DiskOutboxFile } from './outbox-file';
import type { OutboxFile } from './outbox-file';

function outbox(limit = 1000, file: OutboxFile = new MemoryOutboxFile()) {
  const { logger, lines } = quietLogger();
  const box = new EventOutbox(logger, file, limit);
  return {
    box,
    lines,
    report: (code: string) => box.report({ severity: 'info', code, message: code }),
    codes: (most = 100) => box.take(most).map((event) => `${event.sequence} ${event.code}`),
  };
}

describe('EventOutbox', () => {
  it('numbers behind what the host has, without gaps, and the same until acknowledged', () => {
    const { box, report, codes } = outbox();
    box.resumeAfter(41);
    report('A');
    report('B');
    expect(codes()).toEqual(['42 A', '43 B']);
    expect(codes()).toEqual(['42 A', '43 B']);
    box.acknowledge(42);
    report('C');
    expect(codes()).toEqual(['43 B', '44 C']);
    box.acknowledge(44);
    expect(codes()).toEqual([]);
  });

  it('leaves out what the host stored before the stream broke', () => {
    const { box, report, codes } = outbox();
    report('A');
    report('B');
    expect(codes()).toEqual(['1 A', '2 B']);
    box.resumeAfter(1);
    expect(codes()).toEqual(['2 B']);
  });

  it('numbers anew for a host that lost its state', () => {
    const { box, report, codes } = outbox();
    box.resumeAfter(10);
    report('A');
    expect(codes()).toEqual(['11 A']);
    box.resumeAfter(0);
    expect(codes()).toEqual(['1 A']);
  });

  it('keeps the newest when the host is away for long, and says how many are missing', () => {
    const { report, codes } = outbox(3);
    for (const code of ['A', 'B', 'C', 'D', 'E']) report(code);
    expect(codes()).toEqual(['1 EVENTS_DROPPED', '2 C', '3 D', '4 E']);
  });

  it('drops nothing that was sent and not acknowledged', () => {
    const { box, report, codes } = outbox(3);
    for (const code of ['A', 'B', 'C']) report(code);
    expect(codes(2)).toEqual(['1 A', '2 B']);
    report('D');
    box.acknowledge(2);
    expect(codes()).toEqual(expect.arrayContaining(['3 EVENTS_DROPPED', '4 D']));
  });
});

describe('EventOutbox, in the life after a kill', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-outbox-'));
  afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
  const newFile = (name: string) => path.join(folder, `${name}.jsonl`);

  it('has what the host did not acknowledge, with the numbers of before', () => {
    const file = newFile('kept');
    const first = outbox(1000, new DiskOutboxFile(file));
    first.box.resumeAfter(41);
    for (const code of ['A', 'B', 'C']) first.report(code);
    expect(first.codes()).toEqual(['42 A', '43 B', '44 C']);
    first.box.acknowledge(42);
    first.box.report({ severity: 'error', code: 'D', message: 'why', references: { vm_id: 'v' } });
    const second = outbox(1000, new DiskOutboxFile(file));
    // The host had stored one more when the first one was killed.
    second.box.resumeAfter(43);
    expect(second.codes()).toEqual(['44 C', '45 D']);
    expect(second.box.take(10)[1]).toMatchObject({ severity: 'EVENT_SEVERITY_ERROR', message: 'why', references: { vm_id: 'v' } });
    second.box.acknowledge(45);
    expect(outbox(1000, new DiskOutboxFile(file)).box.pending).toBe(0);
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  });

  it('does not take a line for whole that was being written', () => {
    const file = newFile('torn');
    const first = outbox(1000, new DiskOutboxFile(file));
    first.report('A');
    fs.appendFileSync(file, '{"severity":"info","co');
    const second = outbox(1000, new DiskOutboxFile(file));
    second.report('B');
    expect(outbox(1000, new DiskOutboxFile(file)).codes()).toEqual(['1 A', '2 B']);
  });

  it('stays bounded, and has nothing twice, while the host is away through many lives', () => {
    const file = new MemoryOutboxFile();
    const limit = 2 * eventBatch;
    let reported = 0;
    for (let life = 0; life < 10; life += 1) {
      const { box, report } = outbox(limit, file);
      for (let event = 0; event < limit; event += 1) report(`E${(reported += 1)}`);
      expect(box.pending).toBe(limit);
      expect(file.kept.events.length).toBeLessThanOrEqual(2 * limit);
    }
    const { box } = outbox(limit, file);
    box.resumeAfter(0);
    const codes: string[] = [];
    for (let events = box.take(eventBatch); events.length > 0; events = box.take(eventBatch)) {
      codes.push(...events.map((event) => String(event.code)));
      box.acknowledge(Number(events.at(-1)!.sequence));
    }
    expect(codes[0]).toBe('EVENTS_DROPPED');
    expect(codes.at(-1)).toBe(`E${reported}`);
    expect(new Set(codes).size).toBe(codes.length);
  });

  it('goes on without a disk', () => {
    const { report, codes, lines } = outbox(1000, new DiskOutboxFile(path.join(folder, 'nowhere', 'events.jsonl')));
    report('A');
    expect(codes()).toEqual(['1 A']);
    expect(lines.some(({ text }) => text.includes('cannot be kept'))).toBe(true);
  });
});
