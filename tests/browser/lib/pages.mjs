// All pages. Add each new page here, so that it is tested.

// Pages of a server with the fleet of `seeds.mjs`.
export const PAGES = [
  ['dashboard', '/ui/dashboard'],
  ['machines', '/ui/machines'],
  ['machines-chosen', '/ui/machines?q=rack&sort=-seen&state=trouble'],
  ['machine-trouble', '/ui/machines/02-b7-f0-00-00-01'],
  ['machine-working', '/ui/machines/02-b7-f0-00-00-02'],
  ['machine-new', '/ui/machines/02-b7-f0-ff-ff-ff'],
  ['plans', '/ui/plans'],
  ['plan-new', '/ui/plans/new'],
  ['plan', '/ui/plans/night?since=1'],
  ['plan-bundled', '/ui/plans/bty-flash-once'],
  ['plan-edit', '/ui/plans/night/edit'],
  ['images', '/ui/images'],
  ['netboot', '/ui/netboot'],
  ['events', '/ui/events'],
  ['events-chosen', '/ui/events?q=failed'],
  ['backups', '/ui/backups'],
  ['settings', '/ui/settings'],
  ['account', '/ui/account'],
  ['cache', '/ui/cache'],
  ['docs', '/docs/api'],
];

// Pages that look different on an empty server.
export const EMPTY_PAGES = [
  ['dashboard', '/ui/dashboard'],
  ['machines', '/ui/machines'],
  ['machine-new', '/ui/machines/02-b7-f0-ff-ff-ff'],
  ['plans', '/ui/plans'],
  ['images', '/ui/images'],
  ['netboot', '/ui/netboot'],
  ['events', '/ui/events'],
  ['backups', '/ui/backups'],
  ['account', '/ui/account'],
  ['cache', '/ui/cache'],
];
