"""Make depth files from KITTI's LiDAR or NYU-Depth-v2's MATLAB file: ``python tools/depth_data.py --help``."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depth.data.depth_files import depth_png
from depth.data.nyu_mat import DEPTHS, write_nyu
from depth.data.velodyne import Scan, image_size, match_scans, project, read_calibration, read_points
from engine.atomic_files import new_folder
from engine.runs.cli import run_tool

CALIBRATION = "folder of FRAME.txt; or for all frames one file, or the folder of calib_cam_to_cam.txt"
FIRST_PIXEL = (
    "coordinate of the first pixel: 1 (default) as in the depth that the field uses, 0 as KITTI's devkit has it"
)


def main(arguments: list[str]) -> None:
    """Run the sub-command, which writes its output completely or not at all."""
    parser = ArgumentParser(prog="tools/depth_data.py", description="Make files of depth from what a dataset has.")
    commands = parser.add_subparsers(required=True, metavar="velodyne|nyu")
    add_velodyne(commands.add_parser("velodyne", help="KITTI's LiDAR to sparse depth, 16-bit PNG, meters x 256"))
    add_nyu(commands.add_parser("nyu", help="the labeled NYU-Depth-v2 to PNG, depth in mm, and lists of its splits"))
    given = parser.parse_args(arguments)
    given.run(given)


def add_velodyne(parser: ArgumentParser) -> None:
    """Add the options for KITTI's LiDAR."""
    parser.add_argument("--points", type=Path, required=True, help="FRAME.bin, or a folder of them")
    parser.add_argument("--calib", type=Path, required=True, help=CALIBRATION)
    parser.add_argument("--images", type=Path, required=True, help="for their sizes: a folder, or one for all frames")
    parser.add_argument("--camera", type=int, default=2, help="2 (default) is the left color camera, 3 the right one")
    parser.add_argument("--first-pixel", type=int, choices=(0, 1), default=1, help=FIRST_PIXEL)
    parser.add_argument("--out", type=Path, required=True, help="new folder for FRAME.png")
    parser.set_defaults(run=run_velodyne)


def run_velodyne(given: Namespace) -> None:
    """Project all scans."""
    shares = []
    frames = match_scans(given.points, given.calib, given.images)
    with new_folder(given.out) as folder:
        for frame in tqdm(frames, unit="frame", leave=False, disable=None):
            depth = project_frame(frame, camera=given.camera, first_pixel=given.first_pixel)
            (folder / f"{frame.name}.png").write_bytes(depth_png(depth, unit="m/256"))
            shares.append(float((depth > 0).mean()))
    print(f"frames: {len(frames)}, pixels with depth: {np.mean(shares):.1%}, results: {given.out}")


def project_frame(frame: Scan, *, camera: int, first_pixel: int) -> np.ndarray:
    """Project a scan to its depth map, ``(H, W)`` [m]."""
    points, calibration = read_points(frame.points), read_calibration(frame.calibration)
    return project(points, calibration, image_size(frame.image), camera=camera, first_pixel=first_pixel)


def add_nyu(parser: ArgumentParser) -> None:
    """Add the options for NYU-Depth-v2."""
    parser.add_argument("--mat", type=Path, required=True, help="nyu_depth_v2_labeled.mat")
    parser.add_argument("--splits", type=Path, required=True, help="splits.mat")
    parser.add_argument("--depths", choices=DEPTHS, default="filled", help="holes filled in (default), or as measured")
    parser.add_argument("--out", type=Path, required=True, help="new folder for rgb, depth, train.txt and test.txt")
    parser.set_defaults(run=run_nyu)


def run_nyu(given: Namespace) -> None:
    """Unpack the dataset."""
    counts = write_nyu(given.mat, given.splits, given.out, depths=given.depths)
    print(", ".join(f"{name}: {count}" for name, count in counts.items()) + f", results: {given.out}")


if __name__ == "__main__":
    run_tool(main)
