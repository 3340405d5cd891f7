import { quietLogger } from '../testing/quiet-logger';
import { EventOutbox } from './event-outbox';

function outbox(limit = 1000) {
  const box = new EventOutbox(quietLogger().logger, limit);
  return {
    box,
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
