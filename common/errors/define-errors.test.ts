import { CommonErrors, toTidemarkError } from './common-errors';
import { declaredErrors, defineErrors } from './define-errors';
import { hasCode, isTidemarkError } from './tidemark-error';

describe('declared errors', () => {
  it('carry traits, meta, message and cause', () => {
    const cause = new TypeError('x');
    const error = CommonErrors.DEADLINE_EXCEEDED({ what: 'a call', timeoutMs: 5 }, { cause, retryDelayMs: 7 });
    expect(error).toMatchObject({
      code: 'DEADLINE_EXCEEDED',
      retry: 'same-request',
      kind: 'operational',
      meta: { timeoutMs: 5 },
      retryDelayMs: 7,
      cause,
    });
    expect(error.message).toContain('a call');
    expect(isTidemarkError(error)).toBe(true);
    expect(hasCode(error, 'X', 'DEADLINE_EXCEEDED')).toBe(true);
    expect(hasCode(cause, 'DEADLINE_EXCEEDED')).toBe(false);
  });

  it('refuse a second declaration and a bad name', () => {
    const one = { kind: 'bug', retry: 'never', status: 'INTERNAL', message: () => '' } as const;
    expect(() => defineErrors({ INTERNAL: one })).toThrow('twice');
    expect(() => defineErrors({ notUpper: one })).toThrow('upper snake');
  });

  it('say what to do, in a sentence', () => {
    for (const declared of declaredErrors().values()) expect(declared.sample.length).toBeGreaterThan(5);
  });

  it('are made of foreign errors without their text', () => {
    const foreign = toTidemarkError(new TypeError('password=x'), 'saving');
    expect(foreign.code).toBe('INTERNAL');
    expect(foreign.message).not.toContain('password');
    const abort = new AbortController();
    abort.abort();
    expect(toTidemarkError(abort.signal.reason, 'saving').code).toBe('CANCELLED');
  });
});
