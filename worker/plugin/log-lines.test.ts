import { loggerTo } from '../../common/log/logger';
import { LogBuffer, loggerInto } from './log-lines';

const at = new Date('2026-01-02T03:04:05.678Z');

describe('the buffer of log lines', () => {
  it('keeps the oldest, counts what is too much, and starts anew when it is emptied', () => {
    const buffer = new LogBuffer(() => at);
    for (let line = 0; line < 620; line += 1) buffer.add('warn', `line ${line}`, {});
    const messages = Array.from({ length: 6 }, () => buffer.take());
    expect(messages.slice(0, 5).map((message) => message?.lines?.length)).toEqual([100, 100, 100, 100, 100]);
    expect(messages[0]).toMatchObject({ dropped: '120', lines: { 0: { message: 'line 0', level: 'warn', fieldsJson: '{}' } } });
    expect(messages[1]?.dropped).toBe('0');
    expect(messages[5]).toBeUndefined();
  });

  it('gives back what was not sent, in order and with its count', () => {
    const buffer = new LogBuffer();
    buffer.add('warn', 'first', {});
    const taken = buffer.take();
    buffer.add('warn', 'second', {});
    buffer.giveBack({ ...taken, dropped: '3' });
    expect(buffer.take()).toMatchObject({ dropped: '3', lines: [{ message: 'first' }, { message: 'second' }] });
  });

  it('cuts what is too long, and never half a document', () => {
    const buffer = new LogBuffer();
    buffer.add('error', 'x'.repeat(5_000), { much: 'y'.repeat(10_000) });
    const [line] = buffer.take()?.lines ?? [];
    expect(line?.message).toHaveLength(2_000);
    expect(JSON.parse(line?.fieldsJson ?? '')).toEqual({ fieldsTooLong: 10_011 });
    buffer.add('error', 'x', { error: { code: 'SOURCE_UNREADABLE', stack: 'z'.repeat(5_000) } });
    expect(JSON.parse(buffer.take()?.lines?.[0]?.fieldsJson ?? '')).toEqual({ error: { code: 'SOURCE_UNREADABLE' } });
  });
});

test('a logger into the buffer writes everything on, and keeps warnings and errors with the fields of its parents', () => {
  const written: string[] = [];
  const buffer = new LogBuffer();
  const logger = loggerInto(
    buffer,
    loggerTo((level, text) => written.push(`${level} ${text}`)),
  ).child({ lane: 1 });
  logger.debug('a');
  logger.info('b');
  logger.warn('c', { token: 'planted' });
  logger.error('d /images/0123456789abcdef');
  expect(written).toEqual(['debug a', 'info b', 'warn c', 'error d /images/0123456789abcdef']);
  const lines = buffer.take()?.lines ?? [];
  expect(lines.map((line) => [line.message, JSON.parse(line.fieldsJson ?? '')])).toEqual([
    ['c', { lane: 1, token: '[redacted]' }],
    ['d /images/[redacted]', { lane: 1 }],
  ]);
});
