import { TidemarkError } from '../../common/errors/tidemark-error';
import { problemOf } from './problem';

test('what an error says is without secrets, in its parts too', () => {
  const text = 'GET https://host:54322/images/0123456789abcdef failed';
  const error = new TidemarkError({ code: 'X', kind: 'operational', retry: 'never', status: 'UNAVAILABLE' }, text, {
    meta: { problem: text, count: 3 },
  });
  const { body } = problemOf(error, 'a test', 'c');
  expect(JSON.stringify(body)).not.toContain('0123456789abcdef');
  expect(body.meta).toMatchObject({ count: 3 });
});
