import { mountOf } from './mount-table';
import { isShare } from './mounted-share';
import { formatShareLocation, parseShareLocation } from './share-location';

describe('locations on shares', () => {
  test.each([
    ['nfs:/mnt/backup/', { kind: 'nfs', folder: '/mnt/backup' }, 'nfs:/mnt/backup'],
    ['smb:/mnt/a/../b', { kind: 'smb', folder: '/mnt/b' }, 'smb:/mnt/b'],
    ['nfs:nas:/export/', { kind: 'nfs', source: 'nas:/export', subfolder: '' }, 'nfs:nas:/export'],
    ['nfs:nas:/', { source: 'nas:/' }, 'nfs:nas:/'],
    ['nfs:[fd00::1]:/export/a?version=4.2', { source: '[fd00::1]:/export/a', version: '4.2' }, 'nfs:[fd00::1]:/export/a?version=4.2'],
    ['smb://nas/share', { kind: 'smb', source: '//nas/share', subfolder: '' }, 'smb://nas/share'],
    [
      'smb://nas.example/share/a//b/?port=1445&version=3.1.1',
      { source: '//nas.example/share', subfolder: 'a/b', version: '3.1.1', port: 1445 },
      'smb://nas.example/share/a/b?version=3.1.1&port=1445',
    ],
  ])('%s', (location, share, canonical) => {
    expect(parseShareLocation(location)).toMatchObject(share);
    expect(formatShareLocation(parseShareLocation(location))).toBe(canonical);
    expect(formatShareLocation(parseShareLocation(canonical))).toBe(canonical);
  });

  test.each([
    ['nfs:relative', 'has to be'],
    ['nfs:nas:relative', 'has to be'],
    ['smb:nas/share', 'has to be'],
    ['smb://nas', 'has to be'],
    ['nfs:nas:/a?version=9', 'no version'],
    ['nfs:nas:/a?hard=1', 'no option'],
    ['nfs:nas:/a?port=0', 'port'],
    ['smb://nas/share/../other', 'upwards'],
    ['nfs:nas:/a,exec', 'characters'],
    ['smb://nas/share\nuid=0', 'characters'],
    ['smb://user:secret@nas/share', 'has to be'],
  ])('%s is refused', (location, problem) => {
    expect(() => parseShareLocation(location)).toThrow(problem);
  });
});

describe('the mount table', () => {
  const table = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
    '40 22 0:50 / /mnt/a rw,relatime shared:2 - autofs systemd-1 rw,fd=5',
    '41 40 0:51 /x /mnt/a rw,relatime shared:3 - nfs4 nas:/export rw,vers=4.2',
    '42 22 0:52 / /mnt/with\\040blank rw master:1 - cifs //nas/share rw',
    '43 22 0:53 / /mnt/ab rw - fuse.sshfs me@there: rw',
  ].join('\n');

  test.each([
    ['/mnt/a/b/c', '/mnt/a', 'nfs4', 'nas:/export'],
    ['/mnt/a', '/mnt/a', 'nfs4', 'nas:/export'],
    ['/mnt/ab/c', '/mnt/ab', 'fuse.sshfs', 'me@there:'],
    ['/mnt/with blank/c', '/mnt/with blank', 'cifs', '//nas/share'],
    ['/mnt/other', '/', 'ext4', '/dev/sda1'],
  ])('%s', (folder, mountPoint, type, source) => {
    expect(mountOf(folder, table)).toEqual({ mountPoint, type, source });
  });

  test('tells shares from disks', () => {
    const is = (kind: 'nfs' | 'smb', folder: string) => isShare(kind, mountOf(folder, table));
    expect([is('nfs', '/mnt/a'), is('smb', '/mnt/a'), is('nfs', '/mnt/ab'), is('smb', '/mnt/with blank')]).toEqual([
      true,
      false,
      true,
      true,
    ]);
    expect([is('nfs', '/mnt'), is('smb', '/'), isShare('nfs', undefined)]).toEqual([false, false, false]);
  });
});
