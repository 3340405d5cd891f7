import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { loadConfig } from './load-config';

const schema = z.strictObject({
  dataDir: z.string(),
  port: z.int().min(0).max(65535).default(8443),
  retry: z.strictObject({ delayMs: z.int().positive() }).optional(),
  token: z.string().optional(),
});

describe('loadConfig', () => {
  let folder: string;
  beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-config-'));
  });
  afterEach(() => fs.rmSync(folder, { recursive: true }));

  const write = (name: string, text: string) => {
    fs.writeFileSync(path.join(folder, name), text);
    return path.join(folder, name);
  };

  it('takes file, environment and overrides, in this order', () => {
    const file = write('c.json', JSON.stringify({ dataDir: 'file', port: 1, retry: { delayMs: 5 } }));
    const config = loadConfig(schema, {
      file,
      environment: { TIDEMARK_PORT: '2', TIDEMARK_RETRY__DELAY_MS: '7', OTHER: 'x' },
      overrides: { port: 3, token: undefined },
    });
    expect(config).toEqual({ dataDir: 'file', port: 3, retry: { delayMs: 7 } });
    expect(Object.isFrozen(config.retry)).toBe(true);
  });

  it('reads secrets from files', () => {
    const token = write('token', 'secret\n');
    expect(loadConfig(schema, { environment: { TIDEMARK_DATA_DIR: 'd', TIDEMARK_TOKEN_FILE: token } }).token).toBe('secret');
  });

  it('reports every problem at once and names the fields', () => {
    const file = write('c.json', JSON.stringify({ port: 'x', unknown: 1, retry: { delayMs: -1 } }));
    const attempt = () => loadConfig(schema, { file, environment: { TIDEMARK_TOKEN_FILE: path.join(folder, 'missing') } });
    expect(attempt).toThrow(expect.objectContaining({ code: 'CONFIGURATION_INVALID' }));
    for (const part of ['dataDir', 'port', 'unknown', 'retry.delayMs', 'TIDEMARK_TOKEN_FILE']) expect(attempt).toThrow(part);
  });

  it('names a file that is not JSON', () => {
    expect(() => loadConfig(schema, { file: write('c.json', '{'), overrides: { dataDir: 'd' } })).toThrow('c.json');
  });
});
