//! Where the files of a kernel are.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{KernelError, KernelRelease};
use crate::modules::{ModuleLayout, ModuleTree};

/// The image of a build tree, from the tree.
const BZIMAGE: &str = "arch/x86/boot/bzImage";

/// An image, and the build tree that it is in.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) image: PathBuf,
    pub(super) tree: Option<PathBuf>,
}

impl Place {
    fn image(image: PathBuf) -> Self {
        Self { tree: tree_of(&image), image }
    }
}

/// Finds the image that `what` names.
pub(super) fn locate(root: &Path, what: &Path) -> Result<Place, KernelError> {
    match fs::metadata(what) {
        Ok(metadata) if metadata.is_dir() => in_directory(what),
        Ok(_) => Ok(Place::image(what.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => installed(root, what),
        Err(source) => Err(KernelError::Read { path: what.to_owned(), source }),
    }
}

fn in_directory(directory: &Path) -> Result<Place, KernelError> {
    if is_tree(directory) {
        let images = [directory.join(BZIMAGE), directory.join("vmlinux")];
        let image = images.into_iter().find(|image| image.is_file());
        let image = image.ok_or_else(|| KernelError::NotBuilt { tree: directory.to_owned() })?;
        return Ok(Place { image, tree: Some(directory.to_owned()) });
    }
    if is_modules(directory) {
        return beside_modules(directory);
    }
    let mut candidates = Vec::new();
    for place in [directory.to_owned(), directory.join("boot")] {
        candidates.extend(files(&place).into_iter().filter(|path| is_image_name(path)));
    }
    for place in ["lib/modules", "usr/lib/modules"] {
        let releases = files(&directory.join(place));
        candidates.extend(releases.into_iter().map(|release| release.join("vmlinuz")));
    }
    // A link to another one of them is not a second kernel.
    let mut seen: Vec<PathBuf> = Vec::new();
    candidates.retain(|path| match fs::canonicalize(path) {
        Ok(real) if real.is_file() && !seen.contains(&real) => {
            seen.push(real);
            true
        }
        _ => false,
    });
    match <[PathBuf; 1]>::try_from(candidates) {
        Ok([image]) => Ok(Place::image(image)),
        Err(none) if none.is_empty() => Err(KernelError::NoKernel { directory: directory.into() }),
        Err(candidates) => Err(KernelError::Several { directory: directory.into(), candidates }),
    }
}

/// The image of the kernel whose modules are in `directory`.
fn beside_modules(directory: &Path) -> Result<Place, KernelError> {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let release = file_name(&absolute).to_owned();
    let mut tried = vec![absolute.join("vmlinuz")];
    // The root is two levels above lib/modules, or three above usr/lib/modules.
    let roots = absolute.ancestors().skip(3).take(2);
    tried.extend(roots.map(|root| root.join("boot").join(format!("vmlinuz-{release}"))));
    match tried.iter().find(|image| image.is_file()) {
        Some(image) => Ok(Place { image: image.clone(), tree: None }),
        None => Err(KernelError::NoImage { release, modules: directory.to_owned(), tried }),
    }
}

/// An installed kernel, by its release.
fn installed(root: &Path, what: &Path) -> Result<Place, KernelError> {
    let name = what.display().to_string();
    if let Ok(release) = name.parse::<KernelRelease>() {
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        if image.is_file() {
            return Ok(Place { image, tree: None });
        }
        let modules = root.join("lib/modules").join(release.as_str());
        if modules.is_dir() {
            return beside_modules(&modules);
        }
    }
    Err(KernelError::NotFound { what: name, installed: installed_releases(root) })
}

fn installed_releases(root: &Path) -> Vec<KernelRelease> {
    let images = files(&root.join("boot"));
    let images = images.iter().filter_map(|path| file_name(path).strip_prefix("vmlinuz-"));
    let modules = files(&root.join("lib/modules"));
    let modules = modules.iter().filter(|path| path.join("vmlinuz").is_file());
    let names = images.chain(modules.map(|path| file_name(path)));
    let mut releases: Vec<KernelRelease> = names.filter_map(|name| name.parse().ok()).collect();
    releases.sort();
    releases.dedup();
    releases
}

/// The modules that belong to an image by their place. They may be absent.
pub(super) fn own_modules(
    root: &Path,
    place: &Place,
    release: &KernelRelease,
) -> Result<Option<ModuleTree>, KernelError> {
    if let Some(tree) = &place.tree {
        // Without modules the file is empty, or a clean tree has none.
        let order = fs::metadata(tree.join("modules.order"));
        if order.is_ok_and(|order| order.len() > 0) {
            return open(tree, ModuleLayout::Tree).map(Some);
        }
        return Ok(None);
    }
    let image = std::path::absolute(&place.image).unwrap_or_else(|_| place.image.clone());
    let roots = image.ancestors().skip(1).take(5).chain([root]);
    let directories = roots.flat_map(|root| modules_under(root, release));
    match directories.into_iter().find(|directory| directory.is_dir()) {
        Some(directory) => open(&directory, ModuleLayout::Installed).map(Some),
        None => Ok(None),
    }
}

fn modules_under(root: &Path, release: &KernelRelease) -> [PathBuf; 2] {
    ["lib/modules", "usr/lib/modules"].map(|place| root.join(place).join(release.as_str()))
}

/// The modules in a directory that the user names.
pub(super) fn given_modules(
    directory: &Path,
    image: &Path,
    release: &KernelRelease,
) -> Result<ModuleTree, KernelError> {
    let read = |source| KernelError::Read { path: directory.to_owned(), source };
    fs::read_dir(directory).map_err(read)?;
    let other = |found: String| KernelError::OtherRelease {
        directory: directory.to_owned(),
        found,
        image: image.to_owned(),
        wanted: release.clone(),
    };
    if is_tree(directory) {
        let built = fs::read_to_string(directory.join("include/config/kernel.release"));
        match built {
            Ok(found) if found.trim() != release.as_str() => {
                return Err(other(found.trim().to_owned()));
            }
            _ => return open(directory, ModuleLayout::Tree),
        }
    }
    let below = modules_under(directory, release).into_iter();
    let below = below.chain([directory.join(release.as_str())]);
    if let Some(found) = below.into_iter().find(|path| path.is_dir()) {
        return open(&found, ModuleLayout::Installed);
    }
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    if is_modules(directory) {
        let name = file_name(&absolute);
        if name != release.as_str() && name.parse::<KernelRelease>().is_ok() {
            return Err(other(name.to_owned()));
        }
        return open(directory, ModuleLayout::Installed);
    }
    let mut others = files(&directory.join("lib/modules"));
    others.extend(files(directory).into_iter().filter(|path| is_modules(path)));
    if let [first, ..] = &others[..] {
        return Err(other(file_name(first).to_owned()));
    }
    let modules = open(directory, ModuleLayout::Installed)?;
    if modules.is_empty() {
        return Err(KernelError::NoModules { directory: directory.to_owned() });
    }
    Ok(modules)
}

fn open(directory: &Path, layout: ModuleLayout) -> Result<ModuleTree, KernelError> {
    ModuleTree::open(directory, layout)
        .map_err(|source| KernelError::Read { path: directory.to_owned(), source })
}

/// Whether a directory is a kernel's sources, or where they were built.
pub(crate) fn is_tree(directory: &Path) -> bool {
    let has = |name: &str| directory.join(name).exists();
    has("include/config/kernel.release")
        || has("arch/x86/boot")
        || has("Makefile") && (has(".config") || has("Kbuild") && has("Kconfig"))
}

/// The build tree that an image is in.
pub(crate) fn tree_of(image: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(image).ok()?;
    let above = match file_name(&absolute) {
        "bzImage" if absolute.parent().is_some_and(|boot| boot.ends_with("boot")) => 4,
        "vmlinux" => 1,
        _ => return None,
    };
    let tree = absolute.ancestors().nth(above)?;
    is_tree(tree).then(|| tree.to_owned())
}

/// Whether a directory is one of /lib/modules.
fn is_modules(directory: &Path) -> bool {
    ["modules.builtin", "modules.dep", "modules.order", "kernel"]
        .iter()
        .any(|name| directory.join(name).exists())
}

fn is_image_name(path: &Path) -> bool {
    let name = file_name(path);
    ["vmlinuz", "vmlinux", "bzImage"].iter().any(|start| name.starts_with(start))
}

/// The name, or nothing if it is not UTF-8: no file of a kernel has such a name.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What is in a directory, sorted; nothing if it cannot be read.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
